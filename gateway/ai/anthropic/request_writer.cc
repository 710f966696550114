#include <algorithm>

#include <boost/json/array.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/effort.h"
#include "gateway/ai/media.h"

namespace sluice::gateway::ai::anthropic {
namespace {

constexpr std::int64_t kMinBudget = 1024;  // tokens of thinking that the API takes at least
constexpr std::string_view kJsonOnly = "Answer with one JSON object and nothing else.";

class Writer {
 public:
  Writer(const Request& request, const WriteOptions& options)
      : request_(request), options_(options), lost_(options, "Anthropic's messages API") {}

  std::expected<WrittenRequest, Problem> write() {
    lost_.fields(request_.untranslatable);
    effort_ = effort_of(request_.reasoning, lost_);
    thinks_ = wants_thinking() && thoughts_are_there();
    body_["model"] = request_.model;
    body_["max_tokens"] = request_.max_tokens.value_or(options_.default_max_tokens);
    write_system();
    write_messages();
    write_tools();
    write_tool_choice();
    write_format();
    write_thinking();
    write_sampling();
    if (!request_.end_user.empty()) body_["metadata"] = {{"user_id", request_.end_user}};
    if (request_.stream) body_["stream"] = true;
    if (lost_.problem()) return std::unexpected(*lost_.problem());
    return WrittenRequest{std::move(body_), lost_.take_dropped()};
  }

 private:
  bool wants_thinking() const {
    return request_.reasoning.enabled.value_or(effort_ != nullptr && effort_->anthropic > 0);
  }

  std::int64_t budget() const {
    const std::int64_t asked = effort_ != nullptr ? effort_->anthropic : 0;
    return std::max(kMinBudget, request_.reasoning.budget.value_or(asked));
  }

  // With thinking on, a turn that calls a tool must begin with its thought. Where the caller has
  // lost it, the turn goes on without thinking.
  bool thoughts_are_there() const {
    if (request_.messages.empty()) return true;
    for (auto turn = request_.messages.rbegin(); turn != request_.messages.rend(); ++turn) {
      if (turn->role != Role::assistant) continue;
      const bool calls = std::ranges::any_of(turn->parts, [](const Part& part) {
        return std::holds_alternative<ToolCall>(part.content);
      });
      const auto* thought =
          turn->parts.empty() ? nullptr : std::get_if<Thinking>(&turn->parts.front().content);
      return !calls || (thought != nullptr && thought->vendor == Vendor::anthropic);
    }
    return true;
  }

  void write_system() {
    json::array blocks;
    for (const Part& part : request_.system)
      if (auto block = write_block(part, lost_)) blocks.push_back(std::move(*block));
    if (request_.format.kind == OutputFormat::Kind::json)  // there is no mode for it
      blocks.push_back({{"type", "text"}, {"text", kJsonOnly}});
    if (!blocks.empty()) body_["system"] = std::move(blocks);
  }

  void write_messages() {
    json::array messages;
    for (const Message& message : request_.messages) {
      json::array content;
      for (const Part& part : message.parts)
        if (auto block = write_block(part, lost_)) content.push_back(std::move(*block));
      if (content.empty()) continue;
      messages.push_back({{"role", message.role == Role::user ? "user" : "assistant"},
                          {"content", std::move(content)}});
    }
    if (messages.empty())
      lost_.fail("messages", "say nothing that Anthropic's messages API would take");
    else if (messages.front().at("role") != "user")
      lost_.fail("messages", "the first must be the user's for Anthropic's messages API");
    body_["messages"] = std::move(messages);
  }

  void write_tools() {
    if (request_.tools.empty()) return;
    json::array tools;
    for (std::size_t i = 0; i < request_.tools.size(); ++i) {
      const Tool& tool = request_.tools[i];
      json::object out{{"name", tool.name}};
      if (!tool.description.empty()) out["description"] = tool.description;
      json::value schema = tool.parameters.is_object()
                               ? tool.parameters
                               : json::value{{"type", "object"}, {"properties", json::object{}}};
      if (tool.strict.value_or(false)) {
        out["strict"] = true;
        schema = write_schema(schema, indexed("tools", i) + ".parameters", lost_);
      }
      out["input_schema"] = std::move(schema);
      if (tool.cache) out["cache_control"] = {{"type", "ephemeral"}};
      tools.push_back(std::move(out));
    }
    body_["tools"] = std::move(tools);
  }

  void write_tool_choice() {
    if (request_.tools.empty()) return;
    const bool single = request_.parallel_tool_calls.has_value() && !*request_.parallel_tool_calls;
    if (!request_.tool_choice && !single) return;
    using Mode = ToolChoice::Mode;
    ToolChoice choice = request_.tool_choice.value_or(ToolChoice{});
    if (thinks_ && (choice.mode == Mode::required || choice.mode == Mode::one)) {
      lost_.hint("tool_choice");  // a thinking model cannot be forced
      choice = {};
    }
    json::object out{{"type", choice.mode == Mode::automatic  ? "auto"
                              : choice.mode == Mode::none     ? "none"
                              : choice.mode == Mode::required ? "any"
                                                              : "tool"}};
    if (choice.mode == Mode::one) out["name"] = choice.name;
    if (single && choice.mode != Mode::none) out["disable_parallel_tool_use"] = true;
    body_["tool_choice"] = std::move(out);
  }

  void write_format() {
    if (request_.format.kind != OutputFormat::Kind::schema) return;
    body_["output_config"] = {
        {"format",
         {{"type", "json_schema"},
          {"schema", write_schema(request_.format.schema, "response_format.schema", lost_)}}}};
  }

  void write_thinking() {
    if (!thinks_) {
      if (wants_thinking()) lost_.hint("thinking");
      return;
    }
    const std::int64_t thoughts = budget();
    body_["thinking"] = {{"type", "enabled"}, {"budget_tokens", thoughts}};
    const std::int64_t answer = request_.max_tokens.value_or(options_.default_max_tokens);
    if (answer <= thoughts) body_["max_tokens"] = thoughts + answer;
  }

  void write_sampling() {
    if (request_.temperature) {
      if (thinks_ || *request_.temperature > 1) lost_.hint("temperature");  // 0 to 1 here
      if (!thinks_) body_["temperature"] = std::min(1.0, *request_.temperature);
    }
    if (request_.top_p) {
      if (thinks_)
        lost_.hint("top_p");
      else
        body_["top_p"] = *request_.top_p;
    }
    if (request_.top_k) {
      if (thinks_)
        lost_.hint("top_k");
      else
        body_["top_k"] = *request_.top_k;
    }
    if (!request_.stop.empty())
      body_["stop_sequences"] = json::array(request_.stop.begin(), request_.stop.end());
    if (request_.seed) lost_.field("seed");
    if (request_.presence_penalty.value_or(0) != 0) lost_.field("presence_penalty");
    if (request_.frequency_penalty.value_or(0) != 0) lost_.field("frequency_penalty");
  }

  const Request& request_;
  const WriteOptions& options_;
  Untranslatable lost_;
  const EffortLevel* effort_ = nullptr;
  bool thinks_ = false;
  json::object body_;
};

}  // namespace

std::expected<WrittenRequest, Problem> write_request(const Request& request,
                                                     const WriteOptions& options) {
  return Writer(request, options).write();
}

}  // namespace sluice::gateway::ai::anthropic
