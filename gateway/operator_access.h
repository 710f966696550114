// What an operator asks of a running gateway beyond its policy. Control thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <functional>
#include <string>
#include <vector>

#include "gateway/metrics_totals.h"
#include "gateway/upstream/endpoint_order.h"
#include "policy/address.h"
#include "policy/explain.h"
#include "policy/snapshot.h"

namespace sluice::gateway {

class Gateway;

// A ban that is the gateway's to enforce, not the kernel's.
struct OwnBan {
  policy::Prefix source;
  std::chrono::seconds left{};
  std::string upstream;  // action route: where it goes; empty: it is refused
  std::string reason;
};

class OperatorAccess {
 public:
  // The policy in force and what is known of its upstreams and limits now, for `explain`; not
  // called before the first apply().
  using Look = std::function<void(const policy::Snapshot&, const policy::LiveGateway&)>;
  virtual void look(const Look& at) const = 0;
  // Takes endpoints out, back in, or gives them another weight; holds over reloads.
  virtual std::expected<void, std::string> order(const EndpointOrder& order) = 0;
  // Every route's requests since it is there, the busiest first; at most `most`.
  virtual std::vector<RouteTotals> routes(std::size_t most) const = 0;
  virtual std::vector<OwnBan> own_bans() const = 0;
  // pardon: it may be banned again at its next offence, for longer where a rule says so. forget:
  // its address is somebody else's now. False: was not banned here.
  enum class Unban : std::uint8_t { pardon, forget };
  virtual bool unban(const policy::Prefix& source, Unban how) = 0;

 protected:
  ~OperatorAccess() = default;
};

// Of a gateway that Gateway::create() made.
OperatorAccess& operator_access(Gateway& gateway);

}  // namespace sluice::gateway
