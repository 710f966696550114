// A text filter over the strings of a JSON text: what is not found in stays byte for byte.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "gateway/ai/filter/text_filter.h"

namespace sluice::gateway::ai {

// Values alone, not members' names; not what is no text (media, signatures, ids). True: changed.
bool filter_json(const TextFilter& filter, std::string& text, Findings& findings);

// As vendors read JSON: half of a surrogate pair, or bytes that are no UTF-8, make no text unreadable.
std::optional<boost::json::value> parse_leniently(std::string_view text);

// A member whose string is no text.
bool is_opaque(std::string_view member, std::string_view value);

}  // namespace sluice::gateway::ai
