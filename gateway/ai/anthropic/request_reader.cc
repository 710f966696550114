#include <boost/json/array.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/turns.h"

namespace sluice::gateway::ai::anthropic {
namespace {

void read_messages(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* messages = body.array("messages");
  if (messages == nullptr || messages->empty())
    return body.fail("messages", "must be an array with at least one message");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string path = indexed("messages", i);
    ObjectReader message(state, (*messages)[i], path);
    const std::string role = message.required_text("role");
    const json::value* content = message.take("content");
    if (content == nullptr) message.fail("content", "is missing");
    std::vector<Part> parts;
    if (content != nullptr) parts = read_blocks(state, *content, path + ".content");
    if (role == "system") {
      for (Part& part : parts)
        request.system.push_back(std::move(part));
    } else if (role == "user" || role == "assistant") {
      add_turn(request.messages, {role == "user" ? Role::user : Role::assistant, std::move(parts)});
    } else {
      message.fail("role", "must be user or assistant");
    }
    message.done();
  }
  results_first(request.messages);
}

void read_tools(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* tools = body.array("tools");
  if (tools == nullptr) return;
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string path = indexed("tools", i);
    ObjectReader tool(state, (*tools)[i], path);
    if (tool.text_or("type", "custom") != "custom") {  // run by the vendor
      state.untranslatable.push_back(path);
      continue;
    }
    Tool read{.name = tool.required_text("name"),
              .description = tool.text_or("description"),
              .parameters = {}};
    if (const json::value* schema = tool.take("input_schema")) read.parameters = *schema;
    read.strict = tool.boolean("strict");
    if (const json::value* cache = tool.take("cache_control"))
      read.cache = CacheMark{ObjectReader(state, *cache, path + ".cache_control").text_or("ttl")};
    tool.done();
    request.tools.push_back(std::move(read));
  }
}

void read_tool_choice(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* choice = body.take("tool_choice");
  if (choice == nullptr) return;
  ObjectReader fields(state, *choice, "tool_choice");
  const std::string type = fields.required_text("type");
  using Mode = ToolChoice::Mode;
  if (type == "auto")
    request.tool_choice = {Mode::automatic, {}};
  else if (type == "any")
    request.tool_choice = {Mode::required, {}};
  else if (type == "none")
    request.tool_choice = {Mode::none, {}};
  else if (type == "tool")
    request.tool_choice = {Mode::one, fields.required_text("name")};
  else
    fields.fail("type", "must be auto, any, tool or none");
  if (const auto single = fields.boolean("disable_parallel_tool_use"))
    request.parallel_tool_calls = !*single;
  fields.done();
}

void read_thinking(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* thinking = body.take("thinking");
  if (thinking == nullptr) return;
  ObjectReader fields(state, *thinking, "thinking");
  request.reasoning.enabled = fields.required_text("type") != "disabled";  // enabled or adaptive
  request.reasoning.budget = fields.integer("budget_tokens");
  request.reasoning.shown = request.reasoning.enabled;
}

void read_schema(ReadState& state, const json::value& format, const std::string& path,
                 Request& request) {
  ObjectReader fields(state, format, path);
  if (fields.required_text("type") != "json_schema")
    return fields.fail("type", "must be json_schema");
  request.format.kind = OutputFormat::Kind::schema;
  if (const json::value* schema = fields.take("schema")) request.format.schema = *schema;
}

void read_output(ReadState& state, ObjectReader& body, Request& request) {
  if (const json::value* format = body.take("output_format"))
    read_schema(state, *format, "output_format", request);
  const json::value* config = body.take("output_config");
  if (config == nullptr) return;
  ObjectReader fields(state, *config, "output_config");
  if (const json::value* format = fields.take("format"))
    read_schema(state, *format, "output_config.format", request);
  request.reasoning.effort = fields.text_or("effort");
  fields.done();
}

}  // namespace

std::expected<Request, Problem> read_request(const json::value& value) {
  ReadState state;
  ObjectReader body(state, value, "");
  Request request;
  request.model = body.required_text("model");
  request.max_tokens = body.integer("max_tokens");
  if (!request.max_tokens) body.fail("max_tokens", "is missing");
  if (const json::value* system = body.take("system"))
    request.system = read_blocks(state, *system, "system");
  read_messages(state, body, request);
  read_tools(state, body, request);
  read_tool_choice(state, body, request);
  read_thinking(state, body, request);
  read_output(state, body, request);
  request.temperature = body.number("temperature");
  request.top_p = body.number("top_p");
  request.top_k = body.integer("top_k");
  request.stop = body.texts("stop_sequences");
  request.stream = body.boolean("stream").value_or(false);
  if (const json::value* metadata = body.take("metadata"))
    request.end_user = ObjectReader(state, *metadata, "metadata").text_or("user_id");
  body.ignore("service_tier");
  body.ignore("cache_control");
  body.done();
  if (state.problem) return std::unexpected(*state.problem);
  request.untranslatable = std::move(state.untranslatable);
  return request;
}

}  // namespace sluice::gateway::ai::anthropic
