// A client's connection from accept to close, whatever it speaks.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "gateway/listener.h"
#include "gateway/original_destination.h"
#include "gateway/refcounted.h"
#include "gateway/transport.h"
#include "policy/address.h"
#include "policy/limits_concurrency.h"

namespace sluice::gateway {

// A connection's share of its listener's max_connections, and its place in the counts.
class ClientTicket {
 public:
  ClientTicket() = default;
  // `places`: in limits of concurrency, given back with the ticket.
  ClientTicket(RefPtr<Listener> listener, std::vector<policy::ConcurrencyLease> places)
      : listener_(std::move(listener)), places_(std::move(places)) {
    listener_->connection_opened();
  }
  ClientTicket(ClientTicket&& other) noexcept = default;
  ClientTicket& operator=(ClientTicket&& other) noexcept {
    listener_.swap(other.listener_);
    places_.swap(other.places_);
    return *this;
  }
  ~ClientTicket() { release(); }
  void release() {
    places_.clear();
    if (listener_) listener_->connection_closed();
    listener_.reset();
  }

  void hold(std::vector<policy::ConcurrencyLease> places) {
    std::ranges::move(places, std::back_inserter(places_));
  }

  Listener& listener() const { return *listener_; }
  explicit operator bool() const { return static_cast<bool>(listener_); }

 private:
  RefPtr<Listener> listener_;
  std::vector<policy::ConcurrencyLease> places_;
};

// What phase accept knows, handed from owner to owner.
struct Client {
  TransportPtr transport;
  ClientTicket ticket;
  policy::SocketAddress peer;
  // The peer is who a trusted proxy says, not who has shaken hands: never banned in the kernel.
  bool peer_claimed = false;
  // … and where it wanted to go, as the same header says.
  std::optional<policy::SocketAddress> claimed_destination{};
  // Under TLS that a certificate authority of the operator's ended: what it sends reaches its
  // original destination by TLS alone.
  bool decrypted = false;
  std::uint64_t id = 0;  // of the connection, for the log; unique in this process
  // A drain of this connection alone: it takes nothing new, and what is open of it ends then.
  std::optional<std::chrono::steady_clock::time_point> ends_at = {};

  // Where the client wanted to go, for the next proxy. Unspecified: the connection has ended.
  policy::SocketAddress wanted() const {
    if (claimed_destination) return *claimed_destination;
    return local_address(transport->fd()).value_or(policy::SocketAddress{});
  }
};

// In its worker's list while open. Each keeps itself alive until its connection has ended.
class Session : public boost::intrusive::list_base_hook<
                    boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  // Finish what is under way, take nothing new; at once if there is nothing.
  virtual void drain() = 0;
  // Close now; leaves the list before it returns.
  virtual void abort() = 0;
  virtual const Listener& listener() const = 0;
  virtual int fd() const = 0;

  // A drain of its own, while the worker goes on. Of several the first one's deadline holds,
  // whatever has become of the connection by then.
  void end_soon(std::chrono::steady_clock::time_point deadline) {
    if (Client* client = held(); client != nullptr && !client->ends_at) client->ends_at = deadline;
    drain();
  }
  bool overdue(std::chrono::steady_clock::time_point now) {
    const Client* client = held();
    return client != nullptr && client->ends_at && *client->ends_at <= now;
  }

 protected:
  Session() = default;
  ~Session() = default;

 private:
  virtual Client* held() = 0;  // null: handed on
};
using SessionList = boost::intrusive::list<Session, boost::intrusive::constant_time_size<false>>;

}  // namespace sluice::gateway
