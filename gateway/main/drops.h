// What the guard dropped, as JSON for the command line and scripts: counters by rule, and the
// sample of single packets for those who watch.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/control/admin_server.h"
#include "kernel/keeper.h"

namespace sluice::control {

boost::json::object handle_drops(const kernel::Keeper& keeper);

// `time` (RFC 3339, UTC), `verdict` (drop, or audit: it passed), `reason`, `rule`, `from`, `to`,
// ports where there are any, `protocol`, `interface`, `direction`, `bytes`.
boost::json::object to_json(const kernel::DropEvent& event);

// Everybody who watches gets the same sample: at most about a hundred packets a second and
// processor, and once a second {"not_shown": n} when there were more. Nothing is sampled while
// nobody watches. One thread; the keeper outlives the object.
class DropStreams {
 public:
  DropStreams(boost::asio::io_context& io, kernel::Keeper& keeper) : keeper_(keeper), timer_(io) {}
  void add(std::shared_ptr<gateway::AdminStream> stream);

 private:
  struct Watcher {
    std::shared_ptr<gateway::AdminStream> stream;
    std::uint64_t not_shown = 0;  // not told yet
  };
  void poll();
  void send(const boost::json::object& line);
  void tell_not_shown();

  kernel::Keeper& keeper_;
  boost::asio::steady_timer timer_;
  std::vector<Watcher> watchers_;
  std::uint64_t unreported_ = 0;  // by the kernel, when it was last looked at
  std::chrono::steady_clock::time_point told_{};
};

}  // namespace sluice::control
