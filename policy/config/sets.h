// The typed form of `sets`, and of fields that name addresses by prefixes and sets.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/address_set.h"
#include "policy/config/common.h"
#include "policy/config/pods.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

enum class SetFormat { cidr, netset, spamhaus_drop };

struct SetConfig {
  std::string name;
  std::string file;  // "": none; relative to the directory of the policy file that names it
  SetFormat format = SetFormat::cidr;
  std::vector<Prefix> elements;  // as written
  std::optional<PodSelector> pods = std::nullopt;  // this node's, as they come and go
  Location where;
  Location file_where;
  std::shared_ptr<const AddressSet> declared = empty_address_set();  // elements and the file's
  std::shared_ptr<const AddressSet> members = empty_address_set();   // and what was added at run time, and pods'
};

struct SetReference {
  std::string name;
  Location where;
  std::optional<PodSelector> pods = std::nullopt;  // written in place: the set is called after it
  std::shared_ptr<const AddressSet> members = empty_address_set();  // by load_sets()
};

// `from`, `to` and the like: inside it any element suffices. A set without members names nobody.
struct AddressMatch {
  std::vector<Prefix> prefixes;
  std::vector<SetReference> sets;

  bool empty() const { return prefixes.empty() && sets.empty(); }  // of a field: it was left out
  bool contains(const IpAddress& address) const noexcept;
  // The set that holds the address where no prefix does; nullptr: none.
  const SetReference* set_with(const IpAddress& address) const noexcept;
  bool overlaps(const Prefix& prefix) const;
  // What it may name one day: sets can get members of either version at run time.
  bool may_name_v4() const;
  bool may_name_v6() const;
};

}  // namespace sluice::policy
