#include <array>
#include <utility>

#include <boost/json/array.hpp>

#include "gateway/ai/error_body.h"
#include "gateway/ai/gemini/gemini.h"
#include "gateway/ai/media.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::gemini {
namespace {

constexpr std::array<std::string_view, 6> kFiltered{
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"};

constexpr std::array<std::pair<ProblemKind, std::string_view>, 10> kStatuses{{
    {ProblemKind::invalid_request, "INVALID_ARGUMENT"},
    {ProblemKind::too_large, "INVALID_ARGUMENT"},
    {ProblemKind::authentication, "UNAUTHENTICATED"},
    {ProblemKind::permission, "PERMISSION_DENIED"},
    {ProblemKind::not_found, "NOT_FOUND"},
    {ProblemKind::budget, "RESOURCE_EXHAUSTED"},
    {ProblemKind::rate_limit, "RESOURCE_EXHAUSTED"},
    {ProblemKind::overloaded, "UNAVAILABLE"},
    {ProblemKind::timeout, "DEADLINE_EXCEEDED"},
    {ProblemKind::not_supported, "UNIMPLEMENTED"},
}};

bool calls_a_function(const std::vector<Part>& parts) {
  for (const Part& part : parts)
    if (std::holds_alternative<ToolCall>(part.content)) return true;
  return false;
}

}  // namespace

Stop read_stop(std::string_view finish_reason, bool calls) {
  if (finish_reason == "STOP") return calls ? Stop::tool_calls : Stop::end;
  if (finish_reason == "MAX_TOKENS") return Stop::length;
  for (const auto word : kFiltered)
    if (word == finish_reason) return Stop::content_filter;
  return Stop::unknown;
}

std::string_view write_stop(Stop stop) {
  switch (stop) {
    case Stop::end:
    case Stop::stop_sequence:
    case Stop::tool_calls:
      return "STOP";
    case Stop::length:
      return "MAX_TOKENS";
    case Stop::content_filter:
    case Stop::refusal:
      return "SAFETY";
    case Stop::unknown:
      break;
  }
  return {};
}

Problem bad_arguments(const ToolCall& call) {
  return Problem::upstream("the arguments of the call of " + call.name + " are not a JSON object");
}

std::optional<json::object> write_model_part(const Part& part) {
  if (const auto* text = std::get_if<Text>(&part.content))
    return json::object{{"text", text->text}};
  if (const auto* refusal = std::get_if<Refusal>(&part.content))
    return json::object{{"text", refusal->text}};
  if (const auto* thinking = std::get_if<Thinking>(&part.content)) {
    if (thinking->text.empty()) return std::nullopt;
    return json::object{{"text", thinking->text}, {"thought", true}};
  }
  const auto* call = std::get_if<ToolCall>(&part.content);
  if (call == nullptr) return std::nullopt;
  auto arguments = parse_arguments(call->arguments);
  if (!arguments) return std::nullopt;
  json::object function{{"name", call->name}, {"args", std::move(*arguments)}};
  if (!call->id.empty()) function["id"] = call->id;
  json::object out{{"functionCall", std::move(function)}};
  if (!call->signature.empty()) out["thoughtSignature"] = call->signature;
  return out;
}

std::expected<Reply, Problem> read_reply(const json::value& value) {
  ReadState state;
  ObjectReader body(state, value, "");
  Reply reply{.id = body.text_or("responseId"),
              .model = body.text_or("modelVersion"),
              .parts = {},
              .native_stop = {},
              .stop_sequence = {},
              .usage = {}};
  if (const json::value* usage = body.take("usageMetadata"); usage != nullptr && usage->is_object())
    reply.usage = usage_from_gemini(usage->get_object());
  const json::array* candidates = body.array("candidates");
  if (candidates == nullptr || candidates->empty()) {
    const json::value* feedback = body.take("promptFeedback");
    if (feedback == nullptr)
      return std::unexpected(Problem::upstream("the answer has no candidates"));
    reply.stop = Stop::content_filter;
    reply.native_stop = ObjectReader(state, *feedback, "promptFeedback").text_or("blockReason");
    return reply;
  }
  ObjectReader candidate(state, candidates->front(), "candidates[0]");
  std::size_t calls = 0;
  if (const json::value* content = candidate.take("content")) {
    ObjectReader fields(state, *content, "candidates[0].content");
    reply.parts = read_parts(state, fields, "call_" + reply.id + '_', calls);
  }
  reply.native_stop = candidate.text_or("finishReason");
  reply.stop = read_stop(reply.native_stop, calls_a_function(reply.parts));
  if (state.problem) return std::unexpected(Problem::upstream(describe(*state.problem)));
  return reply;
}

std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t) {
  const std::string_view stop = write_stop(reply.stop);
  if (stop.empty()) return std::unexpected(Problem::unknown_stop(reply.native_stop));
  json::array parts;
  for (const Part& part : reply.parts) {
    if (auto written = write_model_part(part))
      parts.push_back(std::move(*written));
    else if (reply.stop != Stop::length && is_unfinished_call(part))
      return std::unexpected(bad_arguments(std::get<ToolCall>(part.content)));
  }
  json::object out{{"candidates", json::array{json::object{
                                      {"content", {{"role", "model"}, {"parts", std::move(parts)}}},
                                      {"finishReason", stop},
                                      {"index", 0}}}},
                   {"modelVersion", reply.model},
                   {"responseId", reply.id}};
  if (reply.usage) out["usageMetadata"] = gemini_usage(*reply.usage);
  return out;
}

Problem read_problem(int status, const json::value& body) {
  const json::object* fields = error_fields(body);
  Problem problem = problem_of(status, fields);
  const auto word = fields != nullptr ? text_of(*fields, "status") : std::nullopt;
  if (!word) return problem;
  for (const auto& [kind, known] : kStatuses)
    if (known == *word && kind != ProblemKind::too_large) problem.kind = kind;
  return problem;
}

json::object write_problem(const Problem& problem) {
  std::string_view word = "INTERNAL";
  for (const auto& [kind, known] : kStatuses)
    if (kind == problem.kind) word = known;
  return {
      {"error",
       {{"code", http_status(problem.kind)}, {"message", describe(problem)}, {"status", word}}}};
}

}  // namespace sluice::gateway::ai::gemini
