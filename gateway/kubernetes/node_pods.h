// The Pods of one node as the API says them (core/v1), and which of them have an address of their
// own. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "policy/pods.h"

namespace sluice::gateway::kubernetes {

class NodePods {
 public:
  void replace(const boost::json::array& items);
  void put(const boost::json::object& item);
  void remove(const boost::json::object& item);

  // Sorted by namespace and name. Left out: who shares the node's addresses (hostNetwork), who has
  // none yet, and who has come to its end, since its address may be another's by now. Where two
  // claim an address, it is that of the one that is not about to go, or was made later.
  std::vector<policy::Pod> addressed() const;

 private:
  struct Known {
    policy::Pod pod;
    bool leaving = false;
    std::string created;  // RFC 3339, UTC: sorts as a text
  };
  static bool later(const Known& a, const Known& b);

  std::map<std::string, Known> pods_;  // by namespace/name
};

}  // namespace sluice::gateway::kubernetes
