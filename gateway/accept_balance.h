// Who takes a new connection. The kernel deals connections out by hash, which is even for many and
// not for few: of eight that carry a hundred streams each (HTTP/2, gRPC), six go to one of two
// workers often enough. So a worker that has clearly more than another gives it what it accepts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gateway/gateway.h"
#include "policy/address.h"

namespace sluice::gateway {

class OverloadGuard;
class Worker;
struct ListenerLoad;

// A connection on its way between workers; it holds its place in what is counted over all of them.
class HandedConnection {
 public:
  HandedConnection(std::shared_ptr<ListenerLoad> load, OverloadGuard& overload);
  HandedConnection(HandedConnection&& other) noexcept;
  HandedConnection& operator=(HandedConnection&&) = delete;
  ~HandedConnection();  // closes what nobody has taken
  int take();           // the descriptor, without a place

  int fd = -1;
  std::string listener;
  WayIn way = WayIn::bind;
  std::optional<policy::SocketAddress> peer;
  std::uint32_t from = 0;  // the worker that has accepted it

 private:
  void give_place_back();

  std::shared_ptr<ListenerLoad> load_;  // null: no place is held
  OverloadGuard& overload_;
};

// Shared by the workers; any thread.
class AcceptBalance {
 public:
  explicit AcceptBalance(std::uint32_t workers) : places_(workers), workers_(workers) {}

  void join(std::uint32_t index, Worker& worker);
  void leave(std::uint32_t index);  // nothing is posted to it afterwards

  // Whose a connection is that `index` has accepted; it is counted from here on, until closed().
  std::uint32_t place(std::uint32_t index);
  void closed(std::uint32_t index) { places_[index].open.fetch_sub(1, std::memory_order_relaxed); }
  std::uint32_t open(std::uint32_t index) const {
    return places_[index].open.load(std::memory_order_relaxed);
  }

  // To the worker whose it is. False: that one is gone; `connection` stays with the caller, and is
  // its own.
  bool give(std::uint32_t to, HandedConnection& connection);
  // Back to who has accepted it.
  void give_back(std::uint32_t by, HandedConnection& connection);
  // It has been taken, or cannot be: its worker need not wait for it any longer.
  void settled(std::uint32_t from);

  // A worker that drains is done only when what it has given away was taken.
  void drains(std::uint32_t index) { places_[index].draining.store(true); }
  bool all_settled(std::uint32_t index) const { return places_[index].given.load() == 0; }

 private:
  void opened(std::uint32_t index) { places_[index].open.fetch_add(1, std::memory_order_relaxed); }
  // The worker that has so many fewer connections than this one that it should have its next.
  std::uint32_t lighter(std::uint32_t index) const;
  bool send(std::uint32_t to, HandedConnection& connection);

  struct alignas(64) Place {
    std::atomic<std::uint32_t> open{0};   // connections, with those on their way to it
    std::atomic<std::uint32_t> given{0};  // of what it accepted, on their way to others
    std::atomic<bool> draining{false};
  };

  std::vector<Place> places_;
  std::mutex placing_;  // two who accept at once must not both choose the same
  std::mutex mutex_;    // of what follows
  std::vector<Worker*> workers_;
};

}  // namespace sluice::gateway
