#include <array>
#include <utility>

#include <boost/json/array.hpp>

#include "gateway/ai/responses/responses.h"

namespace sluice::gateway::ai::responses {
namespace {

// Before what the vendor has made: only it can read that again.
constexpr std::array<std::pair<Vendor, std::string_view>, 3> kSeals{
    {{Vendor::anthropic, "sluice.anthropic:"},
     {Vendor::gemini, "sluice.gemini:"},
     {Vendor::mistral, "sluice.mistral:"}}};
constexpr std::string_view kRedacted = "sluice.anthropic.redacted:";

std::string seal(const Thinking& thinking) {
  if (!thinking.redacted.empty()) return std::string(kRedacted) + thinking.redacted;
  if (thinking.signature.empty()) return {};
  for (const auto& [vendor, word] : kSeals)
    if (vendor == thinking.vendor) return std::string(word) + thinking.signature;
  return {};
}

}  // namespace

std::string item_id(std::string_view kind, std::string_view reply, std::size_t place) {
  return std::string(kind) + "_" + std::string(reply) + "_" + std::to_string(place);
}

json::object text_part(std::string_view text) {
  return {{"type", "output_text"},
          {"text", text},
          {"annotations", json::array{}},
          {"logprobs", json::array{}}};
}

json::object refusal_part(std::string_view text) {
  return {{"type", "refusal"}, {"refusal", text}};
}

json::object message_item(std::string id, json::array content, std::string_view status) {
  return {{"id", std::move(id)},
          {"type", "message"},
          {"status", status},
          {"role", "assistant"},
          {"content", std::move(content)}};
}

json::object call_item(std::string id, const ToolCall& call, std::string_view status) {
  json::object item{{"id", std::move(id)},       {"type", "function_call"},
                    {"status", status},          {"call_id", call.id},
                    {"name", call.name},         {"arguments", call.arguments}};
  if (!call.signature.empty())
    item["extra_content"] = {{"google", {{"thought_signature", call.signature}}}};
  return item;
}

json::object thought_item(std::string id, const Thinking& thinking) {
  json::array summary;
  if (!thinking.text.empty())
    summary.push_back({{"type", "summary_text"}, {"text", thinking.text}});
  json::object item{
      {"id", std::move(id)}, {"type", "reasoning"}, {"summary", std::move(summary)}};
  if (std::string sealed = seal(thinking); !sealed.empty())
    item["encrypted_content"] = std::move(sealed);
  return item;
}

Thinking read_seal(std::string_view encrypted_content) {
  Thinking thinking;
  if (encrypted_content.starts_with(kRedacted)) {
    thinking.redacted = encrypted_content.substr(kRedacted.size());
    thinking.vendor = Vendor::anthropic;
  }
  for (const auto& [vendor, word] : kSeals) {
    if (!encrypted_content.starts_with(word)) continue;
    thinking.signature = encrypted_content.substr(word.size());
    thinking.vendor = vendor;
  }
  return thinking;
}

json::object response_object(std::string_view id, std::string_view model, std::int64_t created,
                             std::string_view status) {
  return {{"id", id},
          {"object", "response"},
          {"created_at", created},
          {"status", status},
          {"error", nullptr},
          {"incomplete_details", nullptr},
          {"instructions", nullptr},
          {"max_output_tokens", nullptr},
          {"model", model},
          {"output", json::array{}},
          {"parallel_tool_calls", true},
          {"previous_response_id", nullptr},
          {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
          {"store", false},
          {"temperature", nullptr},
          {"text", {{"format", {{"type", "text"}}}}},
          {"tool_choice", "auto"},
          {"tools", json::array{}},
          {"top_p", nullptr},
          {"truncation", "disabled"},
          {"usage", nullptr},
          {"user", nullptr},
          {"metadata", json::object{}}};
}

std::string_view ended(Stop stop, json::object& response) {
  std::string_view status;
  switch (stop) {
    case Stop::end:
    case Stop::stop_sequence:
    case Stop::tool_calls:
    case Stop::refusal:
      status = "completed";
      break;
    case Stop::length:
      status = "incomplete";
      response["incomplete_details"] = {{"reason", "max_output_tokens"}};
      break;
    case Stop::content_filter:
      status = "incomplete";
      response["incomplete_details"] = {{"reason", "content_filter"}};
      break;
    case Stop::unknown:
      return {};
  }
  response["status"] = status;
  return status;
}

json::object usage_object(const Usage& usage) {
  return {{"input_tokens", usage.input()},
          {"input_tokens_details", {{"cached_tokens", usage.cache_read}}},
          {"output_tokens", usage.output},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning}}},
          {"total_tokens", usage.input() + usage.output}};
}

}  // namespace sluice::gateway::ai::responses
