// Google's Gemini: generateContent and streamGenerateContent (alt=sse). Inside of gateway/ai:
// codec(Shape::gemini) is the way in. After the API reference at ai.google.dev/api.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "gateway/ai/object_reader.h"
#include "gateway/ai/shape.h"
#include "gateway/ai/untranslatable.h"

namespace sluice::gateway::ai::gemini {

std::expected<Request, Problem> read_request(const json::value& body);
// Calls without an id, as this API allows them, get one made from `call_prefix` and `calls`.
std::vector<Part> read_parts(ReadState& state, ObjectReader& content,
                             const std::string& call_prefix, std::size_t& calls);

std::expected<WrittenRequest, Problem> write_request(const Request& request,
                                                     const WriteOptions& options);
// `schema` as this API takes it, a subset of OpenAPI's: references are put in place, `const` is an
// enum, null among types is `nullable`. What has no words is left out and said. `room`: bytes that
// references of the whole request may still become.
json::value write_schema(const json::value& schema, const std::string& path, Untranslatable& lost,
                         std::size_t& room);

std::expected<Reply, Problem> read_reply(const json::value& body);
std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t created);
// `calls`: a function is called; this API says STOP then.
Stop read_stop(std::string_view finish_reason, bool calls);
std::string_view write_stop(Stop stop);  // "": this shape has no word for it
// Nullopt: not for a model's turn, or a call whose arguments are no JSON object.
std::optional<json::object> write_model_part(const Part& part);
Problem bad_arguments(const ToolCall& call);

Problem read_problem(int status, const json::value& body);
json::object write_problem(const Problem& problem);

std::unique_ptr<StreamReader> stream_reader();
std::unique_ptr<StreamWriter> stream_writer(const StreamOptions& options);

}  // namespace sluice::gateway::ai::gemini
