// Spans of one worker on their way to a collector: a bounded ring, emptied in batches by a request of
// the gateway's own to the upstream `tracing.otlp`. Nothing waits for it: what does not fit is
// dropped and counted.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "gateway/http/subrequest.h"
#include "gateway/timer_wheel.h"
#include "gateway/tracing/span.h"
#include "gateway/worker_config.h"

namespace sluice::gateway {

// Its worker's thread only.
class SpanExporter final : private http::SubrequestUser {
 public:
  static constexpr std::size_t kRing = 2048;  // spans
  static constexpr std::size_t kBatch = 128;

  explicit SpanExporter(Worker& worker);
  ~SpanExporter() { stop(); }

  void follow(const WorkerConfig& config);  // another policy
  void stop();

  // Where a span can be written, cleared; null: no policy asks for them, or there is no room, which
  // is counted. commit() gives it on.
  Span* begin();
  void commit();

 private:
  void tick();
  void send();
  void answered();
  void failed(std::string_view why, bool again);
  void drop_batch();
  void on_subrequest_ended(http::Subrequest& subrequest, http::SubrequestEnd end) override;

  Worker& worker_;
  std::unique_ptr<Span[]> ring_;  // null: nobody wants spans
  std::size_t first_ = 0;         // the oldest, which may be under way
  std::size_t size_ = 0;
  std::size_t under_way_ = 0;  // of the oldest
  std::uint32_t upstream_ = 0;
  std::uint32_t failures_ = 0;  // of this batch
  bool failing_ = false;
  http::Subrequest request_;
  WheelTimer timer_ = WheelTimer::calling<&SpanExporter::tick>(this);
};

}  // namespace sluice::gateway
