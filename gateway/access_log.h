// The access log: a ring per worker that never blocks, and one thread that formats and writes.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>

#include "policy/address.h"
#include "policy/config.h"

namespace sluice::gateway {

enum class WayIn : std::uint8_t;  // gateway.h

// A copy of at most N bytes; what was longer is cut, and the log shows `…` after it.
template <std::size_t N>
class BoundedText {
 public:
  BoundedText() {}  // NOLINT: data_ stays uninitialised, size_ says what counts
  void assign(std::string_view text) {
    cut_ = text.size() > N;
    size_ = static_cast<std::uint16_t>(cut_ ? N : text.size());
    std::copy_n(text.data(), size_, data_.data());  // of nothing too, where memcpy takes no null
  }
  void clear() {
    size_ = 0;
    cut_ = false;
  }
  std::string_view view() const { return {data_.data(), size_}; }
  bool cut() const { return cut_; }
  bool empty() const { return size_ == 0; }

 private:
  std::uint16_t size_ = 0;
  bool cut_ = false;
  std::array<char, N> data_;
};

// One line of the log. Fields that stay as they are after clear() are left out of the line.
struct AccessRecord {
  enum class Kind : std::uint8_t {
    request,
    open,
    close,   // both of a tcp connection or a tunnel
    refused  // a connection, by access rules or limits of its listener, before a byte was read
  };

  Kind kind = Kind::request;
  WayIn way{};
  std::chrono::system_clock::time_point time;  // when the line was made
  std::uint64_t connection = 0;  // id, so that open, requests and close can be put together
  std::uint32_t request = 0;     // of its connection, from 1
  std::uint32_t attempts = 0;    // at upstreams
  int status = 0;
  int grpc_status = -1;         // of a call; negative: none
  std::uint64_t bytes_in = 0;   // from the client
  std::uint64_t bytes_out = 0;  // to the client
  // By phase, each from the end of the one before; negative: the phase was not reached. `wait`: of
  // a request, all before it was sent but connecting: its head on the way, limits that delay, asking
  // who it is, queues, earlier tries.
  std::chrono::nanoseconds total{-1}, wait{-1}, connect{-1}, first_byte{-1};
  policy::SocketAddress client;
  policy::SocketAddress destination;  // where the client wanted to go
  policy::SocketAddress endpoint;     // port 0: none
  BoundedText<32> listener;
  BoundedText<16> method;
  BoundedText<128> host;
  BoundedText<256> path;
  BoundedText<64> route;
  BoundedText<48> upstream;
  BoundedText<64> request_id;
  BoundedText<32> trace_id;
  BoundedText<64> reason;  // why it ended as it did: a limit, a timeout, a parse error, a RelayEnd
  bool query = false;

  // Takes path from a request target; what follows `?` is not kept (it may hold secrets), nor is
  // user information.
  void set_target(std::string_view target);
  void clear();
};

// Single producer, single consumer; fixed memory.
class AccessRing {
 public:
  explicit AccessRing(std::size_t capacity);  // records, a power of two

  // The next free record, cleared; null (and one more drop) when the ring is full. Nothing is
  // logged before commit().
  AccessRecord* begin();
  void commit();
  std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  friend class AccessLog;
  const AccessRecord* front() const;  // consumer
  void pop();
  bool half_full() const;

  std::unique_ptr<AccessRecord[]> records_;
  std::size_t mask_;
  std::atomic<int>* wake_ = nullptr;                // the log's sleep flag …
  int wake_fd_ = -1;                                // … and its eventfd
  alignas(64) std::atomic<std::uint64_t> head_{0};  // written by the producer
  std::uint64_t tail_seen_ = 0;
  std::atomic<std::uint64_t> dropped_{0};
  alignas(64) std::atomic<std::uint64_t> tail_{0};  // written by the consumer
};

// Control thread, but the rings.
class AccessLog {
 public:
  struct Options {
    std::uint32_t workers = 1;
    std::size_t ring_capacity = 2048;  // records of about 900 bytes, per worker; a power of two
  };

  // Starts the writer; `config` as in the policy. The error names the file and what the system
  // said.
  static std::expected<std::unique_ptr<AccessLog>, std::string> open(
      Options options, const policy::AccessLogConfig& config);
  ~AccessLog();  // writes what is queued

  // Worker `index`'s own. Null-safe use: `if (AccessRecord* r = ring.begin()) { …; ring.commit();
  // }`
  AccessRing& ring(std::uint32_t index);
  // False when the policy says `format: none`: workers may leave out the work of filling records.
  bool enabled() const;

  // A reload: another format or place. On error the old ones stay, and reopen() tries again.
  std::expected<void, std::string> configure(const policy::AccessLogConfig& config);
  // After rotation (SIGHUP, SIGUSR1): opens the file by its name again; first what configure()
  // could not open. On error the old one stays.
  std::expected<void, std::string> reopen();
  std::string problem() const;  // why the place of the last configure() has no lines; "": it has
  void flush();  // returns when all that was committed before has been written

  std::uint64_t dropped() const;  // ring full, or not written (disk full, reader gone)
  std::uint64_t written() const;  // lines

 private:
  struct State;
  explicit AccessLog(std::unique_ptr<State> state);
  std::expected<void, std::string> reopen_in_force();
  std::unique_ptr<State> state_;
};

// One line without its newline, appended to `out`; for the writer and for tests. Hostile bytes come
// out escaped: the JSON is valid UTF-8 whatever the client sent, and the text has no control bytes.
void format_access_json(const AccessRecord& record, std::string& out);
void format_access_text(const AccessRecord& record, std::string& out);

}  // namespace sluice::gateway
