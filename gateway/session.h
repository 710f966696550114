// A client's connection from accept to close, whatever it speaks.
#pragma once

#include <cstdint>
#include <utility>

#include <boost/intrusive/list.hpp>

#include "gateway/listener.h"
#include "gateway/refcounted.h"
#include "gateway/transport.h"
#include "policy/address.h"

namespace sluice::gateway {

// A connection's share of its listener's max_connections, and its place in the counts.
class ClientTicket {
 public:
  ClientTicket() = default;
  explicit ClientTicket(RefPtr<Listener> listener) : listener_(std::move(listener)) {
    listener_->connection_opened();
  }
  ClientTicket(ClientTicket&& other) noexcept = default;
  ClientTicket& operator=(ClientTicket&& other) noexcept {
    listener_.swap(other.listener_);
    return *this;
  }
  ~ClientTicket() { release(); }
  void release() {
    if (listener_) listener_->connection_closed();
    listener_.reset();
  }

  Listener& listener() const { return *listener_; }
  explicit operator bool() const { return static_cast<bool>(listener_); }

 private:
  RefPtr<Listener> listener_;
};

// What phase accept knows, handed from owner to owner.
struct Client {
  TransportPtr transport;
  ClientTicket ticket;
  policy::SocketAddress peer;
  std::uint64_t id = 0;  // of the connection, for the log; unique in this process
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

 protected:
  Session() = default;
  ~Session() = default;
};
using SessionList = boost::intrusive::list<Session, boost::intrusive::constant_time_size<false>>;

}  // namespace sluice::gateway
