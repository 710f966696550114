#include "gateway/tracing/span_exporter.h"

#include <algorithm>
#include <memory>
#include <string>

#include "gateway/log.h"
#include "gateway/tracing/otlp.h"
#include "gateway/worker.h"

namespace sluice::gateway {

namespace {

constexpr std::chrono::seconds kDelay{1};     // the longest that a span waits for others
constexpr std::chrono::seconds kTimeout{10};  // of the collector
constexpr std::chrono::seconds kLongestPause{30};
constexpr std::uint32_t kTries = 5;  // of a batch; 1, 2, 4 and 8 s lie between them
constexpr std::size_t kMaxAnswer = 64 * 1024;

// OTLP/HTTP, "Retryable Response Codes".
bool is_retryable(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

SpanExporter::SpanExporter(Worker& worker) : worker_(worker), request_(worker) {}

void SpanExporter::follow(const WorkerConfig& config) {
  const auto& tracing = config.policy().tracing;
  if (!tracing) return stop();
  const auto& upstreams = config.policy().upstreams;
  const auto found =
      std::ranges::find(upstreams, tracing->url.upstream, &policy::Upstream::name);
  upstream_ = static_cast<std::uint32_t>(found - upstreams.begin());
  if (!ring_) ring_ = std::make_unique<Span[]>(kRing);
}

void SpanExporter::stop() {
  timer_.cancel();
  request_.cancel();
  if (size_ != 0) worker_.metrics().spans_dropped(SpanDrop::unsent, size_);
  ring_.reset();
  first_ = size_ = under_way_ = 0;
}

Span* SpanExporter::begin() {
  if (!ring_) return nullptr;
  if (size_ == kRing) {
    worker_.metrics().spans_dropped(SpanDrop::full, 1);
    return nullptr;
  }
  Span& span = ring_[(first_ + size_) % kRing];
  return std::construct_at(&span);  // without copying what it does not use
}

void SpanExporter::commit() {
  ++size_;
  if (request_.active() || failures_ > 0) return;
  if (size_ == kBatch) {
    worker_.wheel().arm(timer_, std::chrono::nanoseconds(1));  // not within a request's own time
  } else if (!timer_.armed()) {
    worker_.wheel().arm(timer_, kDelay);
  }
}

void SpanExporter::tick() {
  if (size_ != 0 && !request_.active()) send();
}

void SpanExporter::send() {
  const RefPtr<WorkerConfig>& config = worker_.config();
  const policy::TracingConfig& tracing = *config->policy().tracing;
  under_way_ = std::min(size_, kBatch);
  std::string& body = request_.body();
  body.clear();
  OtlpWriter writer(body, tracing.service);
  for (std::size_t i = 0; i < under_way_; ++i)
    writer.add(ring_[(first_ + i) % kRing]);
  writer.end();
  request_.head()
      .assign("POST ")
      .append(tracing.url.target)
      .append(" HTTP/1.1\r\nhost: ")
      .append(tracing.url.authority)
      .append("\r\nuser-agent: sluice/" SLUICE_VERSION
              "\r\ncontent-type: application/json\r\ncontent-length: ")
      .append(std::to_string(body.size()))
      .append("\r\n\r\n");
  if (!request_.start(config, upstream_, {}, kTimeout, kMaxAnswer, *this))
    failed("cannot be asked", true);
}

void SpanExporter::on_subrequest_ended(http::Subrequest& /*subrequest*/, http::SubrequestEnd end) {
  if (end != http::SubrequestEnd::answered) return failed(to_string(end), true);
  const int status = request_.response().status();
  if (status / 100 == 2) return answered();
  failed("status " + std::to_string(status), is_retryable(status));
}

void SpanExporter::answered() {
  const OtlpRejected rejected = rejected_by(request_.answer());
  const std::uint64_t lost = std::min<std::uint64_t>(rejected.spans, under_way_);
  worker_.metrics().spans_exported(under_way_ - lost);
  if (lost != 0) worker_.metrics().spans_dropped(SpanDrop::rejected, lost);
  if (lost != 0 && !failing_)
    log_warn("tracing", "the collector does not take all spans", {{"reason", rejected.message}});
  if (lost == 0 && failing_) log_info("tracing", "the collector takes spans again");
  failing_ = lost != 0;
  failures_ = 0;
  first_ = (first_ + under_way_) % kRing;
  size_ -= under_way_;
  under_way_ = 0;
  if (size_ != 0)
    worker_.wheel().arm(timer_, size_ >= kBatch ? std::chrono::nanoseconds(1) : kDelay);
}

void SpanExporter::failed(std::string_view why, bool again) {
  if (!std::exchange(failing_, true))
    log_warn("tracing", "the collector does not take spans",
             {{"endpoint", worker_.config()->policy().tracing->url.text}, {"reason", why}});
  ++failures_;
  if (!again || failures_ >= kTries) drop_batch();
  const auto pause = std::min<std::chrono::seconds>(
      kDelay * (1 << std::min(failures_, 5U)) / 2, kLongestPause);
  if (size_ != 0) worker_.wheel().arm(timer_, std::max<std::chrono::nanoseconds>(pause, kDelay));
}

void SpanExporter::drop_batch() {
  worker_.metrics().spans_dropped(SpanDrop::unsent, under_way_);
  first_ = (first_ + under_way_) % kRing;
  size_ -= under_way_;
  under_way_ = 0;
  failures_ = 0;
}

}  // namespace sluice::gateway
