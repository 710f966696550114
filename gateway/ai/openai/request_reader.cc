#include <boost/json/array.hpp>

#include "gateway/ai/openai/openai.h"
#include "gateway/ai/turns.h"

namespace sluice::gateway::ai::openai {
namespace {

void read_tools(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* tools = body.array("tools");
  if (tools == nullptr) return;
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string path = indexed("tools", i);
    ObjectReader tool(state, (*tools)[i], path);
    if (tool.required_text("type") != "function") {
      state.untranslatable.push_back(path);
      continue;
    }
    const json::value* function = tool.take("function");
    if (function == nullptr) {
      tool.fail("function", "is missing");
      continue;
    }
    ObjectReader fields(state, *function, path + ".function");
    Tool read{.name = fields.required_text("name"),
              .description = fields.text_or("description"),
              .parameters = {}};
    if (const json::value* parameters = fields.take("parameters")) read.parameters = *parameters;
    read.strict = fields.boolean("strict");
    if (tool.take("cache_control") != nullptr) read.cache = CacheMark{};
    fields.done();
    tool.done();
    request.tools.push_back(std::move(read));
  }
}

void read_tool_choice(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* choice = body.take("tool_choice");
  if (choice == nullptr) return;
  using Mode = ToolChoice::Mode;
  if (const auto* word = choice->if_string()) {
    if (*word == "auto")
      request.tool_choice = {Mode::automatic, {}};
    else if (*word == "none")
      request.tool_choice = {Mode::none, {}};
    else if (*word == "required" || *word == "any")
      request.tool_choice = {Mode::required, {}};
    else
      body.fail("tool_choice", "must be auto, none, required or a function");
    return;
  }
  ObjectReader fields(state, *choice, "tool_choice");
  const json::value* function = fields.take("function");
  if (fields.text_or("type") != "function" || function == nullptr) {
    state.untranslatable.emplace_back("tool_choice");
    return;
  }
  ObjectReader named(state, *function, "tool_choice.function");
  request.tool_choice = {Mode::one, named.required_text("name")};
}

void read_format(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* format = body.take("response_format");
  if (format == nullptr) return;
  ObjectReader fields(state, *format, "response_format");
  const std::string type = fields.required_text("type");
  using Kind = OutputFormat::Kind;
  if (type == "json_object") request.format.kind = Kind::json;
  if (type != "json_schema") {
    if (type != "json_object" && type != "text")
      fields.fail("type", "must be text, json_object or json_schema");
    return;
  }
  const json::value* schema = fields.take("json_schema");
  if (schema == nullptr) return fields.fail("json_schema", "is missing");
  ObjectReader named(state, *schema, "response_format.json_schema");
  request.format = {.kind = Kind::schema,
                    .name = named.text_or("name"),
                    .description = named.text_or("description"),
                    .schema = {},
                    .strict = named.boolean("strict")};
  if (const json::value* value = named.take("schema")) request.format.schema = *value;
}

void read_sampling(ObjectReader& body, Request& request) {
  request.max_tokens = body.integer("max_completion_tokens");
  if (const auto older = body.integer("max_tokens"); older && !request.max_tokens)
    request.max_tokens = older;
  request.temperature = body.number("temperature");
  request.top_p = body.number("top_p");
  request.top_k = body.integer("top_k");  // of compatible services
  request.seed = body.integer("seed");
  request.presence_penalty = body.number("presence_penalty");
  request.frequency_penalty = body.number("frequency_penalty");
  request.stop = body.texts("stop");
}

void read_reasoning(ReadState& state, ObjectReader& body, Request& request) {
  request.reasoning.effort = body.text_or("reasoning_effort");
  if (request.reasoning.effort == "none")
    request.reasoning = {.enabled = false, .budget = {}, .effort = {}, .shown = {}};
  const json::value* thinking = body.take("thinking");  // as Anthropic says it
  if (thinking == nullptr) return;
  ObjectReader fields(state, *thinking, "thinking");
  request.reasoning.enabled = fields.text_or("type") == "enabled";
  request.reasoning.budget = fields.integer("budget_tokens");
}

void read_stream(ReadState& state, ObjectReader& body, Request& request) {
  request.stream = body.boolean("stream").value_or(false);
  request.wants_usage = false;
  const json::value* options = body.take("stream_options");
  if (options == nullptr) return;
  ObjectReader fields(state, *options, "stream_options");
  request.wants_usage = fields.boolean("include_usage").value_or(false);
}

void read_message(ReadState& state, const json::value& value, const std::string& path,
                  Request& request) {
  ObjectReader message(state, value, path);
  const std::string role = message.required_text("role");
  message.ignore("name");
  if (role == "system" || role == "developer") {
    for (Part& part : read_content(state, message))
      request.system.push_back(std::move(part));
  } else if (role == "user") {
    add_turn(request.messages, {Role::user, read_content(state, message)});
  } else if (role == "assistant") {
    Message turn{Role::assistant, {}};
    read_thoughts(state, message, turn.parts);
    for (Part& part : read_content(state, message))
      turn.parts.push_back(std::move(part));
    if (const auto refusal = message.text("refusal")) turn.parts.push_back({Refusal{*refusal}});
    for (Part& part : read_tool_calls(state, message))
      turn.parts.push_back(std::move(part));
    // Mistral's: the answer goes on from here.
    if (message.boolean("prefix").value_or(false)) state.untranslatable.push_back(path + ".prefix");
    message.ignore("annotations");
    message.ignore("audio");
    add_turn(request.messages, std::move(turn));
  } else if (role == "tool") {
    ToolResult result{.call_id = message.required_text("tool_call_id"), .name = {}, .content = {}};
    result.name = message.text_or("name");
    result.content = read_content(state, message);
    add_turn(request.messages, {Role::user, {Part{std::move(result)}}});
  } else {
    message.fail("role", "must be system, developer, user, assistant or tool");
  }
  message.done();
}

void read_messages(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* messages = body.array("messages");
  if (messages == nullptr || messages->empty())
    return body.fail("messages", "must be an array with at least one message");
  for (std::size_t i = 0; i < messages->size(); ++i)
    read_message(state, (*messages)[i], indexed("messages", i), request);
  results_first(request.messages);
}

}  // namespace

std::expected<Request, Problem> read_request(const json::value& value) {
  ReadState state;
  ObjectReader body(state, value, "");
  Request request;
  request.model = body.required_text("model");
  read_messages(state, body, request);
  read_tools(state, body, request);
  read_tool_choice(state, body, request);
  request.parallel_tool_calls = body.boolean("parallel_tool_calls");
  read_format(state, body, request);
  read_sampling(body, request);
  read_reasoning(state, body, request);
  read_stream(state, body, request);
  request.end_user = body.text_or("user");
  if (const auto choices = body.integer("n"); choices && *choices != 1)
    state.untranslatable.emplace_back("n");
  if (body.has("logprobs") && body.boolean("logprobs").value_or(false))
    state.untranslatable.emplace_back("logprobs");
  for (const auto* key : {"logprobs", "metadata", "store", "service_tier", "safety_identifier",
                          "prompt_cache_key", "prompt_cache_retention"})
    body.ignore(key);
  body.done();
  if (state.problem) return std::unexpected(*state.problem);
  request.untranslatable = std::move(state.untranslatable);
  return request;
}

}  // namespace sluice::gateway::ai::openai
