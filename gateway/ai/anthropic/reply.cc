#include <array>
#include <utility>

#include <boost/json/array.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/error_body.h"
#include "gateway/ai/media.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::anthropic {
namespace {

// pause_turn has no twin: the vendor's own tools are at work, and the caller would have to go on.
constexpr std::array<std::pair<std::string_view, Stop>, 6> kStops{{
    {"end_turn", Stop::end},
    {"max_tokens", Stop::length},
    {"stop_sequence", Stop::stop_sequence},
    {"tool_use", Stop::tool_calls},
    {"refusal", Stop::refusal},
    {"model_context_window_exceeded", Stop::length},
}};

constexpr std::array<std::pair<ProblemKind, std::string_view>, 9> kTypes{{
    {ProblemKind::invalid_request, "invalid_request_error"},
    {ProblemKind::authentication, "authentication_error"},
    {ProblemKind::permission, "permission_error"},
    {ProblemKind::not_found, "not_found_error"},
    {ProblemKind::too_large, "request_too_large"},
    {ProblemKind::rate_limit, "rate_limit_error"},
    {ProblemKind::budget, "billing_error"},
    {ProblemKind::overloaded, "overloaded_error"},
    {ProblemKind::timeout, "timeout_error"},
}};

}  // namespace

Stop read_stop(std::string_view stop_reason) {
  for (const auto& [word, stop] : kStops)
    if (word == stop_reason) return stop;
  return Stop::unknown;
}

std::string_view write_stop(Stop stop) {
  switch (stop) {
    case Stop::end:
      return "end_turn";
    case Stop::length:
      return "max_tokens";
    case Stop::stop_sequence:
      return "stop_sequence";
    case Stop::tool_calls:
      return "tool_use";
    case Stop::content_filter:
    case Stop::refusal:
      return "refusal";
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
  if (const json::value* content = body.take("content"))
    reply.parts = read_blocks(state, *content, "content");
  reply.native_stop = body.text_or("stop_reason");
  reply.stop = read_stop(reply.native_stop);
  reply.stop_sequence = body.text_or("stop_sequence");
  if (const json::value* usage = body.take("usage"); usage != nullptr && usage->is_object())
    reply.usage = usage_from_anthropic(usage->get_object());
  if (state.problem) return std::unexpected(Problem::upstream(describe(*state.problem)));
  if (!state.untranslatable.empty())
    return std::unexpected(Problem::upstream("the answer holds " + state.untranslatable.front() +
                                             ", which only Anthropic's shape can say"));
  return reply;
}

std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t) {
  const std::string_view stop = write_stop(reply.stop);
  if (stop.empty()) return std::unexpected(Problem::unknown_stop(reply.native_stop));
  WriteOptions all;
  all.drop_untranslatable = true;
  Untranslatable lost(all, "Anthropic's messages API");
  json::array content;
  for (const Part& part : reply.parts) {
    if (reply.stop == Stop::length && is_unfinished_call(part)) continue;
    const auto* thinking = std::get_if<Thinking>(&part.content);
    // Thoughts of others are shown, unsigned: they are not taken back.
    if (thinking != nullptr && thinking->vendor != Vendor::anthropic)
      content.push_back({{"type", "thinking"}, {"thinking", thinking->text}, {"signature", ""}});
    else if (auto block = write_block(part, lost))
      content.push_back(std::move(*block));
  }
  if (lost.problem()) return std::unexpected(Problem::upstream(describe(*lost.problem())));
  return json::object{
      {"id", reply.id},
      {"type", "message"},
      {"role", "assistant"},
      {"model", reply.model},
      {"content", std::move(content)},
      {"stop_reason", stop},
      {"stop_sequence",
       reply.stop_sequence.empty() ? json::value(nullptr) : json::value(reply.stop_sequence)},
      {"usage", anthropic_usage(reply.usage.value_or(Usage{}))}};
}

Problem read_problem(int status, const json::value& body) {
  const json::object* fields = error_fields(body);
  Problem problem = problem_of(status, fields);
  const auto type = fields != nullptr ? text_of(*fields, "type") : std::nullopt;
  if (!type) return problem;
  for (const auto& [kind, word] : kTypes)
    if (word == *type) problem.kind = kind;
  return problem;
}

json::object write_problem(const Problem& problem) {
  std::string_view type = "api_error";
  for (const auto& [kind, word] : kTypes)
    if (kind == problem.kind) type = word;
  return {{"type", "error"}, {"error", {{"type", type}, {"message", describe(problem)}}}};
}

}  // namespace sluice::gateway::ai::anthropic
