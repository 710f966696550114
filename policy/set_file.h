// Files of addresses: what threat lists are published as. Pure: text in, addresses out.
#pragma once

#include <string>
#include <string_view>

#include "policy/config/sets.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

// Of all sets of a policy together; more is a mistake.
inline constexpr std::size_t kMaxSetElements = 4'000'000;
inline constexpr std::size_t kMostSetErrors = 20;  // reported of one file

// An address or prefix a line; empty lines are skipped.
//   cidr           `#` begins a comment; host bits that are set are an error
//   netset         as FireHOL and ipset write them: the same, and host bits are cleared
//   spamhaus-drop  `192.0.2.0/24 ; SBL1`, `;` begins a comment; or JSON, an object with "cidr" a
//                  line, as drop_v4.json has it
// Errors name `name`, the line and the column.
void parse_set_file(std::string_view text, SetFormat format, const std::string& name,
                    AddressSetBuilder& out, Reporter& reporter);

}  // namespace sluice::policy
