// What operators ordered for endpoints (`sluice upstream drain | ready | weight`): kept for the
// next gateway process, and in the state directory over a restart or an upgrade.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

namespace sluice::control {

class EndpointOrders {
 public:
  // What cannot be read is none, and is said in the log.
  explicit EndpointOrders(const std::string& state_dir);

  // An order that the gateway has taken. `ready` undoes what it names.
  void note(const boost::json::object& request, const std::string& state_dir);
  std::vector<boost::json::object> all() const;

 private:
  void load(const std::string& path);

  std::map<std::string, boost::json::object> orders_;  // by what they are about
};

}  // namespace sluice::control
