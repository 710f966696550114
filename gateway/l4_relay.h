// Carries bytes between two TCP connections until both directions have ended: `protocol: tcp`, and
// Upgrade tunnels.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "gateway/metrics_counters.h"
#include "gateway/splice_pipe.h"
#include "gateway/transport.h"

namespace sluice::gateway {

class TimerWheel;

// Why a relay ended. A clean end is named after the side that said first that it has no more to
// send.
enum class RelayEnd : std::uint8_t {
  client_closed,
  upstream_closed,
  client_reset,    // passed on: the upstream got a reset too
  upstream_reset,  // passed on: the client got a reset too
  idle_timeout,    // no byte either way for RelayOptions::idle
  cancelled,       // cancel()
  error,           // RelayResult::error says what
};
std::string_view to_string(RelayEnd end);

// Payload bytes that were handed to the kernel for the other side.
struct RelayBytes {
  std::uint64_t from_client = 0;
  std::uint64_t from_upstream = 0;
};

struct RelayResult {
  RelayEnd end = RelayEnd::error;
  RelayBytes bytes;
  std::error_code error;
  std::optional<NetworkSample> network;  // of the connection to the upstream, as it ended
};

struct RelayOptions {
  std::chrono::nanoseconds idle{};  // 0: no limit
  // Bytes that were read already and belong to the other side; sent before anything else and
  // counted.
  std::string from_client;
  std::string from_upstream;
};

// What the relays of one worker share. Must outlive them.
class RelayWorker {
 public:
  static constexpr std::size_t kScratchSize = 64 * 1024;

  // Has the process ignore SIGPIPE: splice(2) to a socket whose peer is gone has no MSG_NOSIGNAL.
  RelayWorker(boost::asio::io_context& io, TimerWheel& timers);
  RelayWorker(const RelayWorker&) = delete;
  RelayWorker& operator=(const RelayWorker&) = delete;

  boost::asio::io_context& io() { return io_; }
  TimerWheel& timers() { return timers_; }
  SplicePipePool& pipes() { return pipes_; }
  std::array<char, kScratchSize>& scratch() { return scratch_; }

 private:
  boost::asio::io_context& io_;
  TimerWheel& timers_;
  SplicePipePool pipes_;
  std::array<char, kScratchSize> scratch_;  // holds nothing between two handlers
};

// Runs on the thread of its sockets' io_context only; under TLS, all is copied. Keeps itself alive
// until it has ended.
//
// Small messages are copied through the worker's scratch buffer; once a read fills it, the
// direction moves to splice(2) (zero copy) through a borrowed pipe, and back when reads are small
// again. A side that does not read holds back the other: at most a pipe (1 MiB) or one scratch
// buffer is held per direction.
class L4Relay : public std::enable_shared_from_this<L4Relay> {
 public:
  using Done = std::function<void(const RelayResult&)>;

  // Takes both connections. `done` is called once, after both are closed, never from within start()
  // or cancel().
  static std::shared_ptr<L4Relay> start(RelayWorker& worker, TransportPtr client,
                                        TransportPtr upstream, RelayOptions options, Done done);
  virtual ~L4Relay() = default;

  // Ends the connection at once, with a reset to both sides; for the deadline of a drain. Harmless
  // when it has ended.
  virtual void cancel() = 0;
  virtual RelayBytes bytes() const = 0;  // so far
};

}  // namespace sluice::gateway
