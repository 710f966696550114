// The typed form of `intercept`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/config/sets.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct Marks {
  std::uint32_t mark = 0x100000;  // `mask` must have at least two bits; `mark` is its lowest
  std::uint32_t mask = 0x300000;
  std::uint32_t table = 5177;
  std::uint32_t priority = 5177;
  Location where;
};

enum class OnExit { closed, bypass };
enum class SteerBy { automatic, sk_lookup, tproxy, tc };  // tc: forward only
enum class OnChange { keep, drain, reset };
enum class Quic { pass, block };

struct InterceptExcept {
  std::vector<Prefix> from;
  std::vector<SetReference> from_pods;  // whose addresses are among `from` once sets are loaded
  std::vector<Prefix> to;
};

// One entry of intercept.local, .forward or .output; fields that an entry's kind lacks stay empty.
struct Intercept {
  std::vector<Prefix> from;  // forward only; empty: any
  std::vector<SetReference> from_pods;  // likewise among `from`; while there are none, nobody is
  std::vector<Prefix> to;
  InterceptExcept except;
  std::vector<PortRange> ports;
  std::vector<std::string>
      cgroups;  // output only; empty: every process. Paths below the cgroup2 root
  std::string listener;
  OnExit on_exit = OnExit::closed;  // output: bypass
  Duration lease = 3s;
  SteerBy steering = SteerBy::automatic;
  OnChange on_change = OnChange::keep;
  Quic quic = Quic::pass;  // forward and output
  bool take_over = false;  // local
  Location where;
};

// Where entries of steering tc take connections.
struct InterceptTc {
  std::vector<std::string> interfaces;  // names and globs; empty: all but lo
  Location where;
};

struct InterceptConfig {
  Marks marks;
  InterceptTc tc;
  std::vector<Intercept> local;
  std::vector<Intercept> forward;
  std::vector<Intercept> output;
};

}  // namespace sluice::policy
