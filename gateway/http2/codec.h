// One HTTP/2 connection's frames, of either side: nghttp2 between a transport and whoever keeps the
// streams. Buffers are borrowed only while bytes are in them.
#pragma once

#include <cstdint>
#include <memory>
#include <nghttp2/nghttp2.h>
#include <span>

#include "gateway/buffer.h"
#include "gateway/outbox.h"
#include "gateway/transport.h"
#include "gateway/upstream/handler_memory.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http2 {

// Windows (RFC 9113 section 6.9): what a stream may send before the exchange has passed it on, which
// bounds the memory, with the number of streams; and what a connection may send before it is read.
// The connection's is given back at once: streams that wait for slow readers must not use it up.
inline constexpr std::uint32_t kStreamWindow = 64 * 1024 - 1;
inline constexpr std::int32_t kConnectionWindow = 1024 * 1024;

struct SessionFree {
  void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
};
using SessionPtr = std::unique_ptr<nghttp2_session, SessionFree>;

class Codec {
 public:
  enum class State : std::uint8_t {
    open,
    ended,   // in an orderly way: nothing is wanted any more, and all was sent
    broken,  // by the peer or the network
  };

  explicit Codec(Worker& worker) : worker_(worker) {}

  void open(TransportPtr transport, SessionPtr session);
  void close();  // the transport too, unless it was taken
  bool is_open() const { return session_ != nullptr; }
  nghttp2_session* session() const { return session_.get(); }
  Transport& transport() { return *transport_; }

  // Reads what is there and gives it to nghttp2, whose callbacks collect. `error`: nghttp2's.
  struct Receipt {
    State state = State::open;
    int error = 0;
    bool exhausted = false;  // there was nothing more to read
  };
  Receipt receive();
  // Bytes that somebody else has read already.
  Receipt receive(std::string_view bytes);

  // Frames into the buffer, as far as there is room. Not from within nghttp2's callbacks.
  bool fill();  // false: nghttp2 has failed
  // The buffer to the socket.
  State flush();
  bool blocked() const { return blocked_; }
  // Nothing is to be sent or expected any more.
  bool finished() const;
  bool has_output() const { return begin_ != end_; }

  // For nghttp2's send_data callback: whether there is room for so many bytes now, and these.
  bool has_room(std::size_t bytes);
  void put(std::string_view bytes);

  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }

 private:
  static constexpr std::size_t kFrame = 16 * 1024 + 9;  // the largest that nghttp2 makes

  Worker& worker_;
  TransportPtr transport_;
  SessionPtr session_;
  BufferPtr buffer_;  // frames for the socket
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
  bool blocked_ = false;  // the socket takes no more now
  bool eof_ = false;
};

}  // namespace sluice::gateway::http2
