// Anthropic's messages. Inside of gateway/ai: codec(Shape::anthropic) is the way in.
// After the API reference at docs.anthropic.com/en/api/messages.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "gateway/ai/object_reader.h"
#include "gateway/ai/shape.h"
#include "gateway/ai/untranslatable.h"

namespace sluice::gateway::ai::anthropic {

std::expected<Request, Problem> read_request(const json::value& body);
// A string, or an array of blocks. `path`: of `content`.
std::vector<Part> read_blocks(ReadState& state, const json::value& content,
                              const std::string& path);

std::expected<WrittenRequest, Problem> write_request(const Request& request,
                                                     const WriteOptions& options);
// None: what the API would refuse as empty, or what another vendor sealed.
std::optional<json::object> write_block(const Part& part, Untranslatable& lost);

// A schema that answers are held to, as this API takes it and its own SDKs write it: objects are
// closed, and what has no words goes into the description and is said.
json::value write_schema(const json::value& schema, const std::string& path, Untranslatable& lost);

std::expected<Reply, Problem> read_reply(const json::value& body);
std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t created);
Stop read_stop(std::string_view stop_reason);
std::string_view write_stop(Stop stop);  // "": this shape has no word for it

Problem read_problem(int status, const json::value& body);
json::object write_problem(const Problem& problem);

std::unique_ptr<StreamReader> stream_reader();
std::unique_ptr<StreamWriter> stream_writer(const StreamOptions& options);

}  // namespace sluice::gateway::ai::anthropic
