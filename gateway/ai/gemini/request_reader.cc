#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <set>

#include <boost/json/array.hpp>

#include "gateway/ai/gemini/gemini.h"
#include "gateway/ai/json_text.h"
#include "gateway/ai/turns.h"

namespace sluice::gateway::ai::gemini {
namespace {

constexpr std::array<std::string_view, 9> kKeywords{
    "anyOf",     "maxItems",  "minItems", "maxProperties",   "minProperties",
    "maxLength", "minLength", "defs",     "propertyOrdering"};

// Keywords have two names, as all members do.
std::string keyword_of(std::string_view key) {
  const auto known = std::ranges::find(kKeywords, key, snake_case);
  return std::string(known != kKeywords.end() ? *known : key);
}

// Of protobuf's int64, which its JSON has as strings.
constexpr std::array<std::string_view, 6> kCounts{"maxItems",      "minItems",  "maxProperties",
                                                  "minProperties", "maxLength", "minLength"};

json::value as_count(const json::value& value) {
  const json::string* text = value.if_string();
  const auto count = text != nullptr ? whole_number(*text) : std::nullopt;
  return count ? json::value(*count) : value;
}

std::string in_small_letters(std::string_view word) {
  std::string out(word);
  std::ranges::transform(out, out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return out;
}

// "nullable", OpenAPI's word, as one more type.
void add_null(json::object& schema) {
  const json::value* said = schema.if_contains("nullable");
  if (said == nullptr || !said->is_bool()) return;
  const bool nullable = said->get_bool();
  schema.erase("nullable");
  if (!nullable) return;
  if (json::value* type = schema.if_contains("type"); type != nullptr && type->is_string())
    *type = json::array{*type, "null"};
  if (json::value* any = schema.if_contains("anyOf"); any != nullptr && any->is_array())
    any->get_array().push_back(json::object{{"type", "null"}});
  if (json::value* words = schema.if_contains("enum"); words != nullptr && words->is_array())
    words->get_array().push_back(nullptr);
}

// A schema of this API's in JSON Schema's words: types are in capitals here ("OBJECT").
json::value json_schema(const json::value& schema, int depth = 0) {
  constexpr int kMaxDepth = 64;
  if (depth > kMaxDepth) return schema;
  if (const json::array* list = schema.if_array()) {
    json::array out;
    for (const json::value& one : *list)
      out.push_back(json_schema(one, depth + 1));
    return out;
  }
  const json::object* object = schema.if_object();
  if (object == nullptr) return schema;
  json::object out;
  for (const auto& [key, value] : *object) {
    if (key == "type" && value.is_string()) {
      out[key] = in_small_letters(value.get_string());
    } else if (key == "enum" || key == "example" || key == "default") {
      out[key] = value;
    } else if (key == "properties" && value.is_object()) {
      json::object named;  // by the caller's own names
      for (const auto& [name, one] : value.get_object())
        named[name] = json_schema(one, depth + 1);
      out[key] = std::move(named);
    } else {
      const std::string keyword = keyword_of(key);
      const bool count = std::ranges::find(kCounts, keyword) != kCounts.end();
      out[keyword] = count ? as_count(value) : json_schema(value, depth + 1);
    }
  }
  add_null(out);
  return out;
}

// What comes under `json_name` is JSON Schema's already. Null: neither is there.
json::value take_schema(ObjectReader& holder, std::string_view json_name, std::string_view name) {
  const json::value* schema = holder.take(json_name);
  if (schema != nullptr) return *schema;
  schema = holder.take(name);
  return schema != nullptr ? json_schema(*schema) : nullptr;
}

// This API pairs results with calls by name and order, where neither carries an id.
class OpenCalls {
 public:
  void add(const ToolCall& call) {
    by_id_[call.id].push_back(&call);
    by_name_[call.name].push_back(&call);
  }
  // The first that no result was for; null: there is none.
  const ToolCall* take(const ToolResult& result) {
    const bool named = result.call_id.empty();
    auto& calls = named ? by_name_ : by_id_;
    const auto known = calls.find(named ? result.name : result.call_id);
    while (known != calls.end() && !known->second.empty()) {
      const ToolCall* call = known->second.front();
      known->second.pop_front();
      if (paired_.insert(call).second) return call;
    }
    return nullptr;
  }

 private:
  using Calls = std::map<std::string_view, std::deque<const ToolCall*>>;
  Calls by_id_;
  Calls by_name_;
  std::set<const ToolCall*> paired_;
};

void pair_results(Request& request) {
  OpenCalls open;
  for (Message& message : request.messages) {
    for (Part& part : message.parts) {
      if (const auto* call = std::get_if<ToolCall>(&part.content)) open.add(*call);
      auto* result = std::get_if<ToolResult>(&part.content);
      if (result == nullptr) continue;
      if (const ToolCall* call = open.take(*result)) result->call_id = call->id;
    }
  }
}

void read_contents(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* contents = body.array("contents");
  if (contents == nullptr || contents->empty())
    return body.fail("contents", "must be an array with at least one content");
  std::size_t calls = 0;
  for (std::size_t i = 0; i < contents->size(); ++i) {
    ObjectReader content(state, (*contents)[i], indexed("contents", i));
    const std::string role = content.text_or("role", "user");
    if (role != "user" && role != "model" && role != "function")
      content.fail("role", "must be user or model");
    add_turn(request.messages, {role == "model" ? Role::assistant : Role::user,
                                read_parts(state, content, "call_", calls)});
    content.done();
  }
  pair_results(request);
  results_first(request.messages);
}

void read_system(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* system = body.take("systemInstruction");
  if (system == nullptr) return;
  ObjectReader content(state, *system, "systemInstruction");
  std::size_t calls = 0;
  request.system = read_parts(state, content, {}, calls);
}

void read_tools(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* tools = body.array("tools");
  for (std::size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string path = indexed("tools", i);
    ObjectReader tool(state, (*tools)[i], path);
    const json::array* functions = tool.array("functionDeclarations");
    for (std::size_t j = 0; functions != nullptr && j < functions->size(); ++j) {
      ObjectReader function(state, (*functions)[j], indexed(path + ".functionDeclarations", j));
      Tool read{.name = function.required_text("name"),
                .description = function.text_or("description"),
                .parameters = {}};
      json::value schema = take_schema(function, "parametersJsonSchema", "parameters");
      if (!schema.is_null()) read.parameters = std::move(schema);
      for (const std::string_view hint : {"response", "responseJsonSchema"})
        function.ignore(hint);  // what it gives: nobody else asks for that
      function.done();
      request.tools.push_back(std::move(read));
    }
    tool.done();  // searches, code: what the vendor runs
  }
}

void read_tool_config(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* config = body.take("toolConfig");
  if (config == nullptr) return;
  ObjectReader fields(state, *config, "toolConfig");
  const json::value* calling = fields.take("functionCallingConfig");
  if (calling == nullptr) return fields.done();
  ObjectReader mode(state, *calling, "toolConfig.functionCallingConfig");
  const std::string word = mode.text_or("mode", "AUTO");
  const std::vector<std::string> names = mode.texts("allowedFunctionNames");
  using Mode = ToolChoice::Mode;
  if (word == "NONE")
    request.tool_choice = {Mode::none, {}};
  else if (word == "ANY" && names.size() == 1)
    request.tool_choice = {Mode::one, names.front()};
  else if (word == "ANY" && names.empty())
    request.tool_choice = {Mode::required, {}};
  else if (word == "AUTO")
    request.tool_choice = {Mode::automatic, {}};
  else
    state.untranslatable.push_back(mode.path("mode"));
  fields.done();
}

void read_thinking(ReadState& state, ObjectReader& config, Request& request) {
  const json::value* thinking = config.take("thinkingConfig");
  if (thinking == nullptr) return;
  ObjectReader fields(state, *thinking, config.path("thinkingConfig"));
  request.reasoning.shown = fields.boolean("includeThoughts");
  request.reasoning.budget = fields.integer("thinkingBudget");
  if (request.reasoning.budget && *request.reasoning.budget < 0) request.reasoning.budget.reset();
  if (request.reasoning.budget) request.reasoning.enabled = *request.reasoning.budget != 0;
  const std::string level = in_small_letters(fields.text_or("thinkingLevel"));
  if (level != "thinking_level_unspecified") request.reasoning.effort = level;
}

void read_format(ObjectReader& config, Request& request) {
  const std::string type = config.text_or("responseMimeType");
  json::value schema = take_schema(config, "responseJsonSchema", "responseSchema");
  if (type == "application/json") request.format.kind = OutputFormat::Kind::json;
  if (schema.is_null()) return;
  request.format.kind = OutputFormat::Kind::schema;
  request.format.schema = std::move(schema);
}

void read_generation(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* value = body.take("generationConfig");
  if (value == nullptr) return;
  ObjectReader config(state, *value, "generationConfig");
  request.max_tokens = config.integer("maxOutputTokens");
  request.temperature = config.number("temperature");
  request.top_p = config.number("topP");
  request.top_k = config.integer("topK");
  request.seed = config.integer("seed");
  request.presence_penalty = config.number("presencePenalty");
  request.frequency_penalty = config.number("frequencyPenalty");
  request.stop = config.texts("stopSequences");
  if (config.integer("candidateCount").value_or(1) != 1)
    state.untranslatable.emplace_back("generationConfig.candidateCount");
  read_format(config, request);
  read_thinking(state, config, request);
  config.done();
}

}  // namespace

std::expected<Request, Problem> read_request(const json::value& value) {
  ReadState state;
  state.snake_case_too = true;
  ObjectReader body(state, value, "");
  Request request;
  request.model = body.text_or("model");  // else the path's
  read_system(state, body, request);
  read_contents(state, body, request);
  read_tools(state, body, request);
  read_tool_config(state, body, request);
  read_generation(state, body, request);
  body.ignore("safetySettings");  // each vendor keeps its own
  body.ignore("labels");
  body.done();
  if (state.problem) return std::unexpected(*state.problem);
  request.untranslatable = std::move(state.untranslatable);
  return request;
}

}  // namespace sluice::gateway::ai::gemini
