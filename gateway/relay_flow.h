// One direction of a relay: moves bytes from one socket to the other until one of them would block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

#include "gateway/borrowed_pipe.h"
#include "gateway/transport.h"

namespace sluice::gateway {

class RelayWorker;

class RelayFlow {
 public:
  enum class Need : std::uint8_t {
    read,     // go on when the source is readable (it may be already: the turn was long enough)
    write,    // go on when the sink is writable
    nothing,  // the source ended, all was delivered, the sink was told (SHUT_WR)
    source_failed,  // error() says how; the rest is lost
    sink_failed,
  };

  // Both must outlive it. `first` is sent before anything that is read.
  RelayFlow(RelayWorker& worker, Transport& source, Transport& sink, std::string first);
  RelayFlow(const RelayFlow&) = delete;
  RelayFlow& operator=(const RelayFlow&) = delete;

  Need pump();

  std::uint64_t bytes() const { return bytes_; }    // delivered to the sink
  bool holds_bytes() const { return held() != 0; }  // read but not delivered
  bool ended() const { return ended_; }
  std::error_code error() const { return error_; }

 private:
  enum class Step : std::uint8_t { done, blocked, failed };

  std::size_t held() const { return rest_.size() - rest_sent_ + pipe_.bytes(); }
  Step deliver();  // what is held
  Step deliver_rest();
  Step delivered(Flush flush);
  Step take();  // one read, delivered at once as far as the sink takes it
  Step take_by_copy();
  Step take_by_splice();
  Step failed(int number);

  RelayWorker& worker_;
  Transport& source_;
  Transport& sink_;
  std::string rest_;  // copied bytes that the sink did not take
  std::size_t rest_sent_ = 0;
  BorrowedPipe pipe_;
  std::uint64_t bytes_ = 0;
  std::error_code error_;
  BulkMeter meter_;
  bool source_done_ = false;
  bool drained_ = false;  // the last read took all there was
  bool ended_ = false;
};

}  // namespace sluice::gateway
