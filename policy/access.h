// Access rules, compiled: who may come in. Pure; what a listener asks before TLS and a route after
// it is found is the same question.
//
// A source that `deny` names is refused; where `allow` has entries, so is one that it does not
// name. Any entry suffices, and of several the one with the longest prefix is told.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "policy/config/access.h"
#include "policy/regex.h"
#include "policy/request.h"

namespace sluice::policy {

// Which entry of a list names an address, the longest prefix first. A binary search for each prefix
// length that occurs; no allocation.
class PrefixIndex {
 public:
  void add(const Prefix& prefix, std::uint32_t entry);
  void finish();  // after the last add()
  std::optional<std::uint32_t> find(const IpAddress& address) const noexcept;
  bool empty() const { return lengths_.empty(); }

 private:
  struct Entry {
    IpAddress address;
    std::uint32_t entry;
  };
  struct Length {
    bool v4;
    std::uint8_t length;
    std::vector<Entry> entries;  // sorted
  };
  std::vector<Length> lengths_;  // the longest first
};

struct AccessVerdict {
  bool allowed = true;
  const AccessSource* source = nullptr;  // that decided; null: none named the client
};

// What a client has proved: a name of its certificate, or a claim.
class ProofMatcher {
 public:
  ProofMatcher(const AccessSource& source, std::uint32_t entry);
  bool matches(const RequestView& request) const noexcept;
  std::uint32_t entry() const { return entry_; }

 private:
  bool matches_name(std::string_view name) const noexcept;
  bool matches_claim(const AttributeSource& caller) const noexcept;

  std::string identity_;  // without its `*`; "": a claim
  bool any_before_ = false;
  bool any_behind_ = false;
  ClaimMatch claim_;
  std::optional<Regex> regex_;
  std::uint32_t entry_ = 0;
};

// Entries of one list.
class AccessList {
 public:
  explicit AccessList(const std::vector<AccessSource>& sources);
  AccessList() = default;
  std::optional<std::uint32_t> find(const RequestView& request) const noexcept;

 private:
  struct Set {
    std::shared_ptr<const AddressSet> members;
    std::uint32_t entry;
  };
  PrefixIndex prefixes_;
  std::vector<Set> sets_;
  std::vector<ProofMatcher> proofs_;
};

// Refers to the AccessRules that it was made from.
class Access {
 public:
  Access() = default;
  explicit Access(const AccessRules& rules);

  bool empty() const { return rules_ == nullptr; }
  AccessVerdict check(const RequestView& request) const noexcept;

 private:
  const AccessRules* rules_ = nullptr;
  AccessList allow_;
  AccessList deny_;
};

// "198.51.100.0/24", "set `blocklist`", as reasons show it.
std::string to_string(const AccessSource& source);

}  // namespace sluice::policy
