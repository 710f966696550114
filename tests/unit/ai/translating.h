// One call for each step of a translation, on JSON texts.
#pragma once

#include <expected>
#include <gtest/gtest.h>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

json::value parsed(std::string_view text);
// What is at a JSON pointer: a string as it is, all else as JSON; "none".
std::string at(const json::value& value, std::string_view pointer);

std::expected<WrittenRequest, Problem> translate_request(Shape from, Shape to,
                                                         std::string_view body,
                                                         const WriteOptions& options = {});
// What must work.
json::object request(Shape from, Shape to, std::string_view body, const WriteOptions& options = {});
json::object reply(Shape from, Shape to, std::string_view body);

// The stream as the caller sees it; `cut`: in pieces of that many bytes.
std::string stream(Shape from, Shape to, std::string_view bytes, std::size_t cut = 4096,
                   const StreamOptions& options = {});
// The JSON of each event ("[DONE]" as a string).
std::vector<json::value> events(std::string_view stream);

}  // namespace sluice::gateway::ai
