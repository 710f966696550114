// What the guard's monitor counts, as rates: for `sluice top`.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/control/admin_server.h"
#include "gateway/main/top_rates.h"
#include "kernel/keeper.h"
#include "policy/config.h"

namespace sluice::control {

// {"rows": […], "by", "express"} once an interval to everybody who watches. Nothing is read
// while nobody does. One thread; the keeper outlives the object.
class TopStreams {
 public:
  using ConfigInForce = std::function<const policy::Config&()>;
  TopStreams(boost::asio::io_context& io, kernel::Keeper& keeper, ConfigInForce config)
      : keeper_(keeper), config_(std::move(config)), timer_(io) {}

  // False: the request is for something else. `by` (service, source), `all`: services too that the
  // policy does not serve.
  bool add(const boost::json::object& request, const std::shared_ptr<gateway::AdminStream>& stream);

 private:
  struct Watcher {
    std::shared_ptr<gateway::AdminStream> stream;
    kernel::SeenBy by = kernel::SeenBy::service;
    bool all = false;
    TopRates rates;
    double express_bytes = 0;  // as of the last interval
  };
  void poll();

  kernel::Keeper& keeper_;
  ConfigInForce config_;
  boost::asio::steady_timer timer_;
  std::vector<Watcher> watchers_;
  bool polling_ = false;
};

}  // namespace sluice::control
