// OpenAI's Responses API, as callers ask for it, towards vendors that have none. Inside of
// gateway/ai: responses_codec() is the way in. After the API reference at
// platform.openai.com/docs/api-reference/responses.
//
// What a service would have to keep between calls (previous_response_id, conversation, background,
// item_reference) is a clear 400: the gateway keeps nothing.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "gateway/ai/shape.h"

namespace sluice::gateway::ai::responses {

std::expected<Request, Problem> read_request(const json::value& body);
std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t created);
std::unique_ptr<StreamWriter> stream_writer(const StreamOptions& options);

// --- what whole answers and streams have in common (items.cc)

// `place`: its number in the answer, from 0.
std::string item_id(std::string_view kind, std::string_view reply, std::size_t place);
json::object text_part(std::string_view text);
json::object refusal_part(std::string_view text);
json::object message_item(std::string id, json::array content, std::string_view status);
json::object call_item(std::string id, const ToolCall& call, std::string_view status);
// What seals a thought goes to the caller and comes back with it.
json::object thought_item(std::string id, const Thinking& thinking);
Thinking read_seal(std::string_view encrypted_content);

// `status`: in_progress, completed, incomplete.
json::object response_object(std::string_view id, std::string_view model, std::int64_t created,
                             std::string_view status);
// How it has ended; "": this shape has no word for it.
std::string_view ended(Stop stop, json::object& response);
json::object usage_object(const Usage& usage);

}  // namespace sluice::gateway::ai::responses
