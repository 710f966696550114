// The socket of a client or upstream connection, plain or under TLS, whoever owns the connection at
// the moment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "gateway/outbox.h"
#include "gateway/refcounted.h"
#include "gateway/upstream/handler_memory.h"

namespace sluice::gateway {

class TlsStream;  // gateway/tls/stream.h

enum class ReadResult : std::uint8_t {
  data,
  again,   // nothing there now
  full,    // no room was given
  eof,     // the peer sends no more
  failed,  // the connection is broken
};

struct Received {
  ReadResult result = ReadResult::again;
  std::size_t bytes = 0;  // with `data`
  bool drained = false;   // that was all: wait before the next read (it may be more by then)
};

// Who is told that a wait is over; spurious calls are possible.
class TransportUser {
 public:
  virtual void on_readable() = 0;  // or ended, or broken: read() says which
  virtual void on_writable() = 0;
  virtual void on_error() {}  // what want_error() waited for

 protected:
  ~TransportUser() = default;
};

// Its worker's thread only. Held by its owner; waits under way keep it alive, but tell nobody once
// it is closed or has another user.
class Transport final : public RefCounted<Transport> {
 public:
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp,
                                                  boost::asio::io_context::executor_type>;

  // `fd`: a connected or connecting, non-blocking TCP socket, owned from here on. Null: `error`
  // says why (epoll takes no more descriptors), and the socket is closed.
  static RefPtr<Transport> adopt(boost::asio::io_context& io, int fd, bool v6,
                                 boost::system::error_code& error);
  explicit Transport(boost::asio::io_context& io);
  ~Transport();

  // Null: nobody. What was wanted before by another user is still waited for, and told to this one.
  void set_user(TransportUser* user) { user_ = user; }

  // From here on bytes go through `stream`, which works on this descriptor.
  void set_tls(std::unique_ptr<TlsStream> stream);
  TlsStream* tls() const { return tls_.get(); }
  bool plain() const { return tls_ == nullptr; }  // splice(2) and MSG_PEEK are possible
  // Decrypted bytes wait inside: read() has something though the socket may be empty.
  bool has_pending() const;

  // One recv(2) or what TLS needs, never blocking.
  Received read(std::span<char> room);
  // Sends until all is with the kernel or it takes no more. `sent` grows by what left the outbox.
  Flush write(Outbox& outbox, std::uint64_t& sent);

  // The user is called once, never from within. Wanting twice is wanting once.
  void want_read();
  void want_write();
  void want_error();  // while nothing is read: only this tells of a reset

  // No more will be sent: close_notify where there is TLS, and a FIN.
  void shutdown_write();
  void close();
  void close_with_reset();  // the peer sees that it was not an orderly end
  bool is_open() const { return socket_.is_open(); }
  int fd() { return socket_.native_handle(); }  // borrowed

 private:
  void wait_readable();
  void wait_writable();
  void readable();
  void writable();

  Socket socket_;
  std::unique_ptr<TlsStream> tls_;
  TransportUser* user_ = nullptr;
  bool waiting_readable_ = false;  // with the reactor
  bool waiting_writable_ = false;
  bool wants_read_ = false;  // by the user
  bool wants_write_ = false;
  HandlerMemory read_memory_;
  HandlerMemory write_memory_;
};
using TransportPtr = RefPtr<Transport>;

}  // namespace sluice::gateway
