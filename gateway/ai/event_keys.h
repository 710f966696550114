// What stands in the JSON of a stream's event, as far as it can be told without parsing it: one
// look over its bytes.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

struct EventKeys {
  std::uint64_t text_bytes = 0;  // of the answer's text, as written
  bool media = false;            // of it something that is no text
  bool finished = false;         // a reason to end is there, and not null
  bool usage = false;            // an object of token counts is
};

// `shape`: who calls the reason and the counts what.
EventKeys keys_of(Shape shape, std::string_view data);

// The text behind `at`, from the first that is no space.
std::string_view behind(std::string_view data, std::size_t at);
// The size of the string that `data` begins with, as written and without its quotes; 0 where there
// is none.
std::uint64_t string_bytes(std::string_view data);

}  // namespace sluice::gateway::ai
