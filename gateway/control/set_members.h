// Members that were added to sets at run time: kept in the state directory, so that they survive a
// restart, until their time is up.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "policy/address.h"
#include "policy/document.h"

namespace sluice::gateway {

// One thread. Times are wall-clock: a restart in between must not matter.
class SetMembers {
 public:
  using Clock = std::chrono::system_clock;
  struct Member {
    policy::Prefix prefix;
    std::optional<Clock::time_point> expires;  // absent: until it is deleted
    std::string reason;                        // for people; at most kMaxReason bytes
  };
  static constexpr std::size_t kMost = 100'000;  // of all sets
  static constexpr std::size_t kMaxReason = 200;

  // What was kept in `state_dir`, less what has run out. A file that is not there is no error; one
  // that cannot be read is, and then there are no members.
  std::expected<void, std::string> load(const std::string& state_dir, Clock::time_point now);

  // Adding what is there replaces time and reason. Refused, in words: too many, every address.
  std::expected<void, std::string> add(const std::string& set, Member member);
  bool remove(const std::string& set, const policy::Prefix& prefix);  // false: was not a member
  bool expire(Clock::time_point now);                                 // true: some ran out
  std::optional<Clock::time_point> next_expiry() const;

  // By prefix.
  std::vector<Member> list(const std::string& set) const;
  std::size_t size() const { return size_; }

  // As parse() takes them, one file a set.
  std::vector<policy::PolicyFile> files() const;
  // Replaces the file atomically, mode 0600.
  std::expected<void, std::string> save(const std::string& state_dir) const;

 private:
  using OfSet = std::map<policy::Prefix, Member>;
  std::map<std::string, OfSet, std::less<>> sets_;
  std::size_t size_ = 0;
};

}  // namespace sluice::gateway
