// The socket of a client or upstream connection, plain or under TLS, whoever owns the connection at
// the moment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <sys/types.h>
#include <utility>

#include <boost/asio/detail/reactor.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/express.h"
#include "gateway/outbox.h"
#include "gateway/refcounted.h"

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
//
// It waits through Asio's reactor itself, an interface that Asio keeps to itself, because
// async_wait() costs an epoll_ctl(2) each time: it has the kernel look again. Where the last read
// is known to have left nothing, the next edge will come by itself. How that is known: a
// connection's first reads ask for TCP_INQ, which costs a recvmsg(2). One that lives longer has
// epoll tell of the peer's end (EPOLLRDHUP), and then a short read took all there was (epoll(7)).
// By the express lane such a read may leave what came by TCP behind it: that is looked at again a
// little later.
class Transport final : public RefCounted<Transport> {
 public:
  // `fd`: a connected or connecting, non-blocking TCP socket, owned from here on. Null: `error`
  // says why (epoll takes no more descriptors), and the socket is closed.
  static RefPtr<Transport> adopt(boost::asio::io_context& io, int fd,
                                 boost::system::error_code& error);
  explicit Transport(boost::asio::io_context& io);
  ~Transport();

  // Null: nobody. What was wanted before by another user is still waited for, and told to this one.
  void set_user(TransportUser* user) { user_ = user; }

  // From here on bytes go through `stream`, which works on this descriptor.
  void set_tls(std::unique_ptr<TlsStream> stream);
  TlsStream* tls() const { return tls_.get(); }
  bool plain() const { return tls_ == nullptr; }  // MSG_PEEK and splice(2) to it are possible
  bool splices() const { return plain() && !lane_.may_bring(); }  // from it, with all that comes
  // Decrypted bytes wait inside: read() has something though the socket may be empty.
  bool has_pending() const;
  // Why read() has failed, where it is known; "": it is not. A literal.
  std::string_view complaint() const;

  // The last read took everything, and an event will tell of more.
  bool drained() const { return socket_drained() && !tls_; }
  bool socket_drained() const { return quiet_ && edge_seen_; }  // whatever TLS may hold
  // Nothing is there to be read. Free where the last read said so; of TLS it says nothing.
  bool silent();

  // One recv(2) or what TLS needs, never blocking.
  Received read(std::span<char> room);
  // The socket's own bytes, for what lies between the socket and read() and write().
  Received receive(std::span<char> room);
  // `more`: follows soon, and may share a segment with these.
  Flush send(std::span<const char> bytes, std::size_t& sent, bool more = false);
  // Sends until all is with the kernel or it takes no more. `sent` grows by what left the outbox.
  Flush write(Outbox& outbox, std::uint64_t& sent);

  // The connection was offered to the express lane before it was made, or its other end may have
  // been.
  void expect_express() { lane_.expect(); }
  // All that was written so far has been read: what follows, long or of unknown length, goes by
  // TCP.
  void leave_express() { lane_.leave(fd_); }
  // To the sink of a splice(2), as send() does.
  bool may_say() const { return !lane_.holds(); }
  // After a write that failed, `errno` says why. True: by TCP it may go on, and will from here on.
  bool turns_to_tcp();
  void said(std::size_t bytes) { lane_.said(bytes); }

  // The user is called once, never from within. Wanting twice is wanting once. Of a reset that came
  // together with the last bytes of a message this may not tell: whoever waits for more of one
  // reads until `again` first.
  void want_read();
  void want_write();
  void want_error();  // while nothing is read: only this tells of a reset

  // What is written from here on is followed at once by close() or shutdown_write(): the kernel may
  // hold a last piece back until then, so that it shares a segment with the FIN.
  void last_words() { last_words_ = true; }
  // No more will be sent: close_notify where there is TLS, and a FIN.
  void shutdown_write();
  void close();
  void close_with_reset();  // the peer sees that it was not an orderly end
  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }  // borrowed

  // So that reads from `fd` say whether they left anything; accepted sockets have it from their
  // listening one (kernel/sockets.cc), as TCP_NODELAY.
  static void report_unread_bytes(int fd, bool yes = true);

  // Of the wait under way, for who looks again (express_looks.h): each has another number.
  std::uint32_t wait_number() const { return wait_number_; }
  bool waits_unsure() const { return is_open() && wants_read_ && quiet_ && unsure_; }
  bool set_looked_after(bool yes) { return std::exchange(looked_after_, yes); }
  void look_again();

 private:
  using Reactor = boost::asio::detail::reactor;
  // One wait with the reactor at a time; ends with one event.
  struct Wait final : boost::asio::detail::reactor_op {
    explicit Wait(void (Transport::*then)());
    void (Transport::*ended)();
    RefPtr<Transport> transport;  // while it is under way
    bool not_yet = false;         // the reactor tries each once, before there was any event
  };
  static Wait::status perform(boost::asio::detail::reactor_op* wait);
  static void complete(void* owner, boost::asio::detail::operation* wait,
                       const boost::system::error_code& error, std::size_t bytes);

  Received receive_reporting(std::span<char> room);
  Received taken(std::size_t bytes);
  Received nothing(ssize_t result);
  void note_events();
  bool asks_for_end();
  void start(Wait& wait, int direction, bool edge_will_come);
  void end();
  void wait_readable();
  void wait_writable();
  void readable();
  void writable();
  void broken();
  Flush flush(Outbox& outbox, std::uint64_t& sent, bool more);
  void wait_for_word();
  void may_write_again();

  boost::asio::io_context& io_;
  Reactor& reactor_;
  Reactor::per_descriptor_data descriptor_ = nullptr;
  int fd_ = -1;
  std::unique_ptr<TlsStream> tls_;
  TransportUser* user_ = nullptr;
  ExpressLane lane_;
  std::unique_ptr<boost::asio::steady_timer> patience_;  // while the lane holds who wants to write
  std::uint32_t wait_number_ = 0;
  std::uint8_t reads_ = 0;      // as far as kSettled
  bool told_of_end_ = false;    // epoll is asked for EPOLLRDHUP
  bool more_may_hide_ = false;  // it told of an end or of urgent data: no short read is trusted
  bool looked_after_ = false;   // by ExpressLooks
  bool quiet_ = false;          // nothing was left by the last read; cleared by an event
  bool unsure_ = false;     // … but by TCP, behind what came by the lane
  bool edge_seen_ = false;  // the reactor has told of one, and so knows of later ones
  bool last_words_ = false;
  bool wants_read_ = false;  // by the user
  bool wants_write_ = false;
  Wait readable_wait_{&Transport::readable};
  Wait writable_wait_{&Transport::writable};
  Wait error_wait_{&Transport::broken};
};
using TransportPtr = RefPtr<Transport>;

}  // namespace sluice::gateway
