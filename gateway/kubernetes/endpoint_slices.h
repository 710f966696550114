// What the EndpointSlices of a Service say (discovery.k8s.io/v1). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "policy/address.h"
#include "policy/config/upstreams.h"

namespace sluice::gateway::kubernetes {

struct SlicePort {
  std::string name;
  std::uint16_t port = 0;
};

struct SliceEndpoint {
  policy::IpAddress address;
  bool ready = true;
  bool serving = true;
  bool terminating = false;
};

struct Slice {
  std::vector<SlicePort> ports;  // TCP's
  std::vector<SliceEndpoint> endpoints;
};

// nullopt: without a name, or of FQDNs, which are no addresses.
std::optional<std::pair<std::string, Slice>> slice_of(const boost::json::object& object);

// Of one Service, by their names.
class EndpointSlices {
 public:
  void replace(const boost::json::array& items);
  void put(const boost::json::object& item);
  void remove(const boost::json::object& item);

  // Where its endpoints are: those that are ready; while none is, those that are about to go and
  // serve still, as kube-proxy does. Sorted, each once. `port`: a name or number, "": the only one.
  std::vector<policy::SocketAddress> endpoints(const std::string& port,
                                               policy::AddressFamily family) const;

 private:
  std::map<std::string, Slice> slices_;
};

}  // namespace sluice::gateway::kubernetes
