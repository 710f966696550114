// OpenAI's chat completions. Inside of gateway/ai: codec(Shape::openai) is the way in.
// After the API reference at platform.openai.com/docs/api-reference/chat, and what services that
// call themselves compatible add to it.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "gateway/ai/object_reader.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai::openai {

std::expected<Request, Problem> read_request(const json::value& body);
// A message's content: a string, or parts. `path` is the message's.
std::vector<Part> read_content(ReadState& state, ObjectReader& message);
// Thoughts that an earlier answer showed and the caller has sent back.
void read_thoughts(ReadState& state, ObjectReader& message, std::vector<Part>& parts);
std::vector<Part> read_tool_calls(ReadState& state, ObjectReader& message);

std::expected<WrittenRequest, Problem> write_request(const Request& request,
                                                     const WriteOptions& options);

std::expected<Reply, Problem> read_reply(const json::value& body);
std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t created);
Stop read_stop(std::string_view finish_reason);
// "": this shape has no word for it.
std::string_view write_stop(Stop stop);
json::object write_tool_call(const ToolCall& call);
json::object write_thought(const Thinking& thinking);

Problem read_problem(int status, const json::value& body);
json::object write_problem(const Problem& problem);

std::unique_ptr<StreamReader> stream_reader();
std::unique_ptr<StreamWriter> stream_writer(const StreamOptions& options);

}  // namespace sluice::gateway::ai::openai
