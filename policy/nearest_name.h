// "Did you mean": the known name that a misspelt one is nearest to.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sluice::policy {

// The name within a third of its length in edits (insert, delete, replace, swap neighbours); empty:
// none is near.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known);

// "did you mean `x`?", or "known: a, b, c" (at most a dozen), or "" when nothing is known.
std::string suggestion(std::string_view name, std::span<const std::string_view> known);

}  // namespace sluice::policy
