// A client's HTTP/1.1 connection: its socket, what was read and not used yet, and the exchange
// under way. One that waits for a request, or for more of an answer, holds no buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/buffer.h"
#include "gateway/outbox.h"
#include "gateway/refcounted.h"
#include "gateway/session.h"
#include "gateway/timer_wheel.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http1 {

class ClientStream;

// What becomes of the connection after an exchange.
enum class After : std::uint8_t {
  keep_alive,
  close,
  linger,  // the client may still be sending: let it read the answer first (RFC 9112 section 9.6)
  reset,   // the answer was cut short, and the client must see that
  gone,    // the socket was taken away
};

class Connection final : public Session, public RefCounted<Connection>, private TransportUser {
 public:
  static void start(Worker& worker, Client client);

  explicit Connection(Worker& worker);
  ~Connection();
  void recycle();  // by the last RefPtr

  void drain() override;
  void abort() override;
  const Listener& listener() const override { return client_->ticket.listener(); }
  int fd() const override { return client_->transport->fd(); }

  // --- for the exchange ---
  // The client's bytes, from the first of the request under way.
  std::string_view input() const { return {buffer_ ? buffer_->bytes : nullptr, filled_}; }
  std::size_t input_room() const { return Buffer::kSize - filled_; }
  void drop_input(std::size_t from, std::size_t to);  // forgets these bytes, moves the rest down
  void forget_input();                                // all of it, and the buffer
  ReadResult read();                                  // appends to input()
  void want_read();
  Flush send(Outbox& outbox, std::uint64_t& sent);
  void want_write() { client_->transport->want_write(); }
  // The last thing that an exchange does; it is gone when this returns. `used`: bytes of input()
  // that belonged to it.
  void exchange_ended(After after, std::size_t used);

  const Client& client() const { return *client_; }
  const policy::SocketAddress& peer() const { return client_->peer; }
  const std::string& peer_text();  // the address without the port
  std::uint64_t id() const { return client_->id; }
  std::uint32_t requests() const { return requests_; }
  Transport& transport() { return *client_->transport; }
  // Takes no further request.
  bool ends() const;
  bool half_closed() const { return eof_; }
  Client take_client();

 private:
  Client* held() override { return client_ ? &*client_ : nullptr; }
  void on_readable() override;
  void on_writable() override;
  void on_timer();
  void proceed();       // the next request, as long as there are bytes of one
  bool become_http2();  // true: this connection is gone
  bool begin_exchange();
  void wait_idle();
  void last_call();
  void linger();
  void discard();
  void close(bool with_reset);

  Worker& worker_;
  std::optional<Client> client_;
  BufferPtr buffer_;
  std::size_t filled_ = 0;
  std::unique_ptr<ClientStream> exchange_;
  std::uint32_t requests_ = 0;
  std::size_t discarded_ = 0;
  bool eof_ = false;
  bool lingering_ = false;
  bool proceeding_ = false;
  bool again_ = false;
  WheelTimer timer_ = WheelTimer::calling<&Connection::on_timer>(this);
  std::string peer_text_;
  RefPtr<Connection> self_;  // while open
};

}  // namespace sluice::gateway::http1
