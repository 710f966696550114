#include "gateway/l4_relay.h"

#include <csignal>
#include <sys/socket.h>
#include <utility>

#include <boost/asio/post.hpp>

#include "gateway/relay_flow.h"
#include "gateway/tcp_sample.h"
#include "gateway/timer_wheel.h"

namespace sluice::gateway {

namespace {

namespace asio = boost::asio;
using Need = RelayFlow::Need;

class Relay final : public L4Relay {
 public:
  Relay(RelayWorker& worker, TransportPtr client, TransportPtr upstream, RelayOptions options,
        Done done)
      : worker_(worker),
        idle_(options.idle),
        client_(*this, std::move(client)),
        upstream_(*this, std::move(upstream)),
        from_client_(worker, *client_.transport, *upstream_.transport,
                     std::move(options.from_client)),
        from_upstream_(worker, *upstream_.transport, *client_.transport,
                       std::move(options.from_upstream)),
        done_(std::move(done)) {}

  void run() {
    self_ = shared_from_this();
    touch();
    pump(from_client_);
    if (!result_) pump(from_upstream_);
  }

  void cancel() override { finish(RelayEnd::cancelled, {}, true); }

  RelayBytes bytes() const override { return {from_client_.bytes(), from_upstream_.bytes()}; }

 private:
  // One of the two connections.
  struct Side final : public TransportUser {
    Side(Relay& owner, TransportPtr own) : relay(owner), transport(std::move(own)) {
      transport->set_user(this);
    }
    void on_readable() override { relay.resume(relay.flow_from(*this)); }
    void on_writable() override { relay.resume(relay.flow_to(*this)); }
    void on_error() override { relay.check_error(*this); }

    Relay& relay;
    TransportPtr transport;
    bool watched = false;  // a wait for errors is under way
  };

  RelayFlow& flow_from(const Side& side) {
    return &side == &client_ ? from_client_ : from_upstream_;
  }
  RelayFlow& flow_to(const Side& side) { return &side == &client_ ? from_upstream_ : from_client_; }
  Side& source(const RelayFlow& flow) { return &flow == &from_client_ ? client_ : upstream_; }
  Side& sink(const RelayFlow& flow) { return &flow == &from_client_ ? upstream_ : client_; }

  void touch() {
    if (idle_ > idle_.zero()) worker_.timers().arm(idle_timer_, idle_);
  }

  void pump(RelayFlow& flow) {
    const std::uint64_t before = flow.bytes();
    const Need need = flow.pump();
    if (flow.bytes() != before) touch();
    switch (need) {
      case Need::read:
        return source(flow).transport->want_read();
      case Need::write:
        watch(source(flow));
        return sink(flow).transport->want_write();
      case Need::nothing:
        return direction_ended(flow);
      case Need::source_failed:
        return broken(source(flow), flow.error());
      case Need::sink_failed:
        return broken(sink(flow), flow.error());
    }
  }

  // An error of the wait shows in the next read or write.
  void resume(RelayFlow& flow) {
    const auto guard = self_;
    if (!result_ && !flow.ended()) pump(flow);
  }

  // While nothing is read from a side, only this tells that its peer has reset the connection.
  void watch(Side& side) {
    if (!std::exchange(side.watched, true)) side.transport->want_error();
  }

  // Not watched again when there is none: the condition (urgent data, say) may last, and would make
  // this spin.
  void check_error(Side& side) {
    const auto guard = self_;
    int number = 0;
    socklen_t size = sizeof number;
    ::getsockopt(side.transport->fd(), SOL_SOCKET, SO_ERROR, &number, &size);
    if (number != 0) broken(side, std::error_code(number, std::system_category()));
  }

  void direction_ended(const RelayFlow& flow) {
    if (!first_ended_) first_ended_ = &flow;
    if (from_client_.ended() && from_upstream_.ended()) {
      finish(first_ended_ == &from_client_ ? RelayEnd::client_closed : RelayEnd::upstream_closed,
             {}, false);
      return;
    }
    watch(source(flow));
  }

  void broken(const Side& side, std::error_code error) {
    const bool reset = error == std::errc::connection_reset || error == std::errc::broken_pipe;
    const RelayEnd end = &side == &client_ ? RelayEnd::client_reset : RelayEnd::upstream_reset;
    finish(reset ? end : RelayEnd::error, error, true);
  }

  // What was read but could not be delivered is lost: then the peers must not take the end for a
  // clean one.
  void on_idle() {
    finish(RelayEnd::idle_timeout, {}, from_client_.holds_bytes() || from_upstream_.holds_bytes());
  }

  void finish(RelayEnd end, std::error_code error, bool reset) {
    if (result_) return;
    result_ = RelayResult{end, bytes(), error, sample_tcp(upstream_.transport->fd())};
    idle_timer_.cancel();
    close(*client_.transport, reset);
    close(*upstream_.transport, reset);
    asio::post(worker_.io(), [self = std::move(self_), this] {
      const Done done = std::move(done_);
      done(*result_);
    });
  }

  static void close(Transport& transport, bool reset) {
    reset ? transport.close_with_reset() : transport.close();
  }

  RelayWorker& worker_;
  std::chrono::nanoseconds idle_;
  Side client_;
  Side upstream_;
  RelayFlow from_client_;
  RelayFlow from_upstream_;
  const RelayFlow* first_ended_ = nullptr;
  WheelTimer idle_timer_ = WheelTimer::calling<&Relay::on_idle>(this);
  std::optional<RelayResult> result_;
  Done done_;
  std::shared_ptr<L4Relay> self_;  // until it has ended
};

}  // namespace

std::string_view to_string(RelayEnd end) {
  switch (end) {
    case RelayEnd::client_closed:
      return "client_closed";
    case RelayEnd::upstream_closed:
      return "upstream_closed";
    case RelayEnd::client_reset:
      return "client_reset";
    case RelayEnd::upstream_reset:
      return "upstream_reset";
    case RelayEnd::idle_timeout:
      return "idle_timeout";
    case RelayEnd::cancelled:
      return "cancelled";
    case RelayEnd::error:
      return "error";
  }
  return "error";
}

RelayWorker::RelayWorker(boost::asio::io_context& io, TimerWheel& timers)
    : io_(io), timers_(timers) {
  std::signal(SIGPIPE, SIG_IGN);
}

std::shared_ptr<L4Relay> L4Relay::start(RelayWorker& worker, TransportPtr client,
                                        TransportPtr upstream, RelayOptions options, Done done) {
  auto relay = std::make_shared<Relay>(worker, std::move(client), std::move(upstream),
                                       std::move(options), std::move(done));
  relay->run();
  return relay;
}

}  // namespace sluice::gateway
