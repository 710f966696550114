#include <array>
#include <optional>
#include <string>
#include <utility>

#include <boost/json/array.hpp>

#include "gateway/ai/error_body.h"
#include "gateway/ai/media.h"
#include "gateway/ai/openai/openai.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::openai {
namespace {

constexpr std::array<std::pair<std::string_view, Stop>, 6> kStops{{
    {"stop", Stop::end},
    {"length", Stop::length},
    {"tool_calls", Stop::tool_calls},
    {"content_filter", Stop::content_filter},
    {"function_call", Stop::tool_calls},
    {"model_length", Stop::length},  // Mistral
}};

constexpr std::array<std::pair<ProblemKind, std::string_view>, 7> kTypes{{
    {ProblemKind::invalid_request, "invalid_request_error"},
    {ProblemKind::authentication, "authentication_error"},
    {ProblemKind::permission, "permission_error"},
    {ProblemKind::not_found, "not_found_error"},
    {ProblemKind::too_large, "invalid_request_error"},
    {ProblemKind::rate_limit, "rate_limit_error"},
    {ProblemKind::budget, "insufficient_quota"},
}};

}  // namespace

Stop read_stop(std::string_view finish_reason) {
  for (const auto& [word, stop] : kStops)
    if (word == finish_reason) return stop;
  return Stop::unknown;
}

std::string_view write_stop(Stop stop) {
  switch (stop) {
    case Stop::end:
    case Stop::stop_sequence:
      return "stop";
    case Stop::length:
      return "length";
    case Stop::tool_calls:
      return "tool_calls";
    case Stop::content_filter:
    case Stop::refusal:
      return "content_filter";
    case Stop::unknown:
      break;
  }
  return {};
}

std::expected<Reply, Problem> read_reply(const json::value& value) {
  ReadState state;
  ObjectReader body(state, value, "");
  Reply reply{.id = body.text_or("id"),
              .model = body.text_or("model"),
              .parts = {},
              .native_stop = {},
              .stop_sequence = {},
              .usage = {}};
  const json::array* choices = body.array("choices");
  if (choices == nullptr || choices->empty())
    return std::unexpected(Problem::upstream("the answer has no choices"));
  ObjectReader choice(state, choices->front(), "choices[0]");
  reply.native_stop = choice.text_or("finish_reason");
  reply.stop = read_stop(reply.native_stop);
  if (const json::value* said = choice.take("message")) {
    ObjectReader message(state, *said, "choices[0].message");
    std::optional<std::string> thought = message.text("reasoning_content");
    if (!thought) thought = message.text("reasoning");  // Ollama, vLLM, OpenRouter
    if (thought && !thought->empty())
      reply.parts.push_back(
          {Thinking{.text = *thought, .signature = {}, .redacted = {}, .vendor = Vendor::openai}});
    for (Part& part : read_content(state, message))
      reply.parts.push_back(std::move(part));
    if (const auto refusal = message.text("refusal")) reply.parts.push_back({Refusal{*refusal}});
    for (Part& part : read_tool_calls(state, message))
      reply.parts.push_back(std::move(part));
  }
  if (const json::value* usage = body.take("usage"); usage != nullptr && usage->is_object())
    reply.usage = usage_from_openai(usage->get_object());
  if (state.problem) return std::unexpected(Problem::upstream(describe(*state.problem)));
  return reply;
}

json::object write_tool_call(const ToolCall& call) {
  json::object out{
      {"id", call.id},
      {"type", "function"},
      {"function",
       {{"name", call.name}, {"arguments", call.arguments.empty() ? "{}" : call.arguments}}}};
  if (!call.signature.empty())
    out["extra_content"] = {{"google", {{"thought_signature", call.signature}}}};
  return out;
}

json::object write_thought(const Thinking& thinking) {
  if (!thinking.redacted.empty())
    return {{"type", "redacted_thinking"}, {"data", thinking.redacted}};
  return {{"type", "thinking"}, {"thinking", thinking.text}, {"signature", thinking.signature}};
}

std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t created) {
  const std::string_view finish = write_stop(reply.stop);
  if (finish.empty()) return std::unexpected(Problem::unknown_stop(reply.native_stop));
  json::object message{{"role", "assistant"}};
  json::array calls;
  json::array thoughts;
  std::string reasoning;
  for (const Part& part : reply.parts) {
    if (const auto* call = std::get_if<ToolCall>(&part.content)) {
      calls.push_back(write_tool_call(*call));
    } else if (const auto* refusal = std::get_if<Refusal>(&part.content)) {
      message["refusal"] = refusal->text;
    } else if (const auto* thinking = std::get_if<Thinking>(&part.content)) {
      reasoning += thinking->text;
      if (thinking->vendor == Vendor::anthropic) thoughts.push_back(write_thought(*thinking));
    }
  }
  const std::string text = joined_text(reply.parts, "");
  message["content"] = text.empty() && !calls.empty() ? json::value(nullptr) : json::value(text);
  if (!reasoning.empty()) message["reasoning_content"] = std::move(reasoning);
  if (!thoughts.empty()) message["thinking_blocks"] = std::move(thoughts);
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  json::object choice{{"index", 0},
                      {"message", std::move(message)},
                      {"logprobs", nullptr},
                      {"finish_reason", finish}};
  if (reply.native_stop != finish) choice["native_finish_reason"] = reply.native_stop;
  json::object out{{"id", reply.id},
                   {"object", "chat.completion"},
                   {"created", created},
                   {"model", reply.model},
                   {"choices", json::array{std::move(choice)}}};
  if (reply.usage) out["usage"] = openai_usage(*reply.usage);
  return out;
}

Problem read_problem(int status, const json::value& body) {
  const json::object* fields = error_fields(body);
  // Mistral's {"object": "error", "message": …} has its fields at the top.
  if (fields == nullptr) fields = body.if_object();
  Problem problem = problem_of(status, fields);
  if (fields != nullptr) problem.field = text_of(*fields, "param").value_or("");
  return problem;
}

json::object write_problem(const Problem& problem) {
  std::string_view type = "server_error";
  for (const auto& [kind, word] : kTypes)
    if (kind == problem.kind) type = word;
  return {{"error",
           {{"message", describe(problem)},
            {"type", type},
            {"param", problem.field.empty() ? json::value(nullptr) : json::value(problem.field)},
            {"code", problem.kind == ProblemKind::budget ? json::value(type)
                                                         : json::value(nullptr)}}}};
}

}  // namespace sluice::gateway::ai::openai
