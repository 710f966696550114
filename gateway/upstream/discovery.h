// Which addresses the names of the policy's endpoints stand for, kept up to date by DNS.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/upstream/registry.h"
#include "policy/config.h"

namespace sluice::gateway {

struct DiscoveryOptions {
  std::uint32_t own_mark = 0;
  std::function<void()> on_change;  // resolve() says something else than before
  std::string resolv_conf = "/etc/resolv.conf";
};

struct DnsCount {
  std::string name;
  std::string type;  // A, AAAA, SRV
  std::uint64_t answered = 0;
  std::uint64_t failed = 0;
};

// Control thread only. A name is asked for again when its TTL is over (never before the upstream's
// min_ttl). While that fails, the last good answer holds, and the question is repeated, at first
// after a second, at most after kLongestPause. "There is no such name" must be said kEmptyTimes in
// a row before endpoints go: a broken server says so too.
class Discovery {
 public:
  static constexpr std::chrono::seconds kLongestPause{10};
  static constexpr std::uint32_t kEmptyTimes = 3;

  Discovery(boost::asio::io_context& io, DiscoveryOptions options);
  ~Discovery();

  // The names of these from now on. What is known of names that stay is kept, their clocks go on.
  void follow(const std::vector<policy::Upstream>& upstreams);

  // Sorted, so that the order of records in an answer means nothing.
  Resolution resolve(const policy::Upstream& upstream, const policy::Endpoint& endpoint) const;

  std::size_t names() const;             // questions that are asked
  std::vector<DnsCount> counts() const;  // a name that is asked of different servers once

 private:
  struct Lookup;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
