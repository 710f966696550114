#include <algorithm>
#include <array>

#include <boost/json/array.hpp>

#include "gateway/ai/media.h"
#include "gateway/ai/object_reader.h"
#include "gateway/ai/responses/responses.h"
#include "gateway/ai/turns.h"

namespace sluice::gateway::ai::responses {
namespace {

// What one service keeps between calls.
void refuse_state(ObjectReader& body) {
  for (const std::string_view key : {"previous_response_id", "conversation", "prompt"})
    if (body.take(key) != nullptr)
      body.fail(key, "is kept by one vendor alone; send the whole conversation in `input`");
  if (body.boolean("background").value_or(false))
    body.fail("background", "needs a vendor that keeps answers; ask in the foreground");
}

std::optional<Part> read_image(ReadState& state, ObjectReader& part) {
  Image image{.media_type = {}, .data = {}, .url = {}, .detail = part.text_or("detail")};
  if (part.take("file_id") != nullptr) {
    state.untranslatable.push_back(part.path("file_id"));  // it lies with one vendor
    return std::nullopt;
  }
  image.url = part.required_text("image_url");
  if (auto data = parse_data_url(image.url)) {
    image.media_type = std::move(data->media_type);
    image.data = std::move(data->data);
    image.url.clear();
  }
  return Part{std::move(image)};
}

std::optional<Part> read_file(ReadState& state, ObjectReader& part) {
  Document file{.media_type = {}, .data = {}, .url = {}, .name = part.text_or("filename")};
  if (part.take("file_id") != nullptr) {
    state.untranslatable.push_back(part.path("file_id"));
    return std::nullopt;
  }
  if (auto url = part.text("file_url")) {
    file.url = std::move(*url);
    file.media_type = "application/pdf";
    return Part{std::move(file)};
  }
  auto data = parse_data_url(part.required_text("file_data"));
  if (!data) {
    part.fail("file_data", "must be a data URL in base64");
    return std::nullopt;
  }
  file.media_type = std::move(data->media_type);
  file.data = std::move(data->data);
  return Part{std::move(file)};
}

std::optional<Part> read_audio(ReadState& state, ObjectReader& part) {
  const json::value* value = part.take("input_audio");
  if (value == nullptr) {
    part.fail("input_audio", "is missing");
    return std::nullopt;
  }
  ObjectReader fields(state, *value, part.path("input_audio"));
  return Part{Audio{fields.required_text("format"), fields.required_text("data")}};
}

std::optional<Part> read_part(ReadState& state, const json::value& value, const std::string& path) {
  ObjectReader part(state, value, path);
  const std::string type = part.required_text("type");
  if (type == "input_text" || type == "output_text" || type == "text")
    return Part{Text{part.required_text("text")}};
  if (type == "refusal") return Part{Refusal{part.required_text("refusal")}};
  if (type == "input_image") return read_image(state, part);
  if (type == "input_file") return read_file(state, part);
  if (type == "input_audio") return read_audio(state, part);
  if (!type.empty()) state.untranslatable.push_back(path);
  return std::nullopt;
}

// A string, or parts.
std::vector<Part> read_parts(ReadState& state, ObjectReader& item, std::string_view key) {
  std::vector<Part> parts;
  const json::value* content = item.take(key);
  if (content == nullptr) return parts;
  if (const auto* text = content->if_string()) {
    if (!text->empty()) parts.push_back({Text{std::string(*text)}});
    return parts;
  }
  const json::array* array = content->if_array();
  if (array == nullptr) {
    item.fail(key, "must be a string or an array of parts");
    return parts;
  }
  for (std::size_t i = 0; i < array->size(); ++i)
    if (auto part = read_part(state, (*array)[i], indexed(item.path(key), i)))
      parts.push_back(std::move(*part));
  return parts;
}

void read_message(ReadState& state, ObjectReader& item, Request& request) {
  const std::string role = item.required_text("role");
  std::vector<Part> parts = read_parts(state, item, "content");
  if (role == "system" || role == "developer") {
    for (Part& part : parts)
      request.system.push_back(std::move(part));
  } else if (role == "user") {
    add_turn(request.messages, {Role::user, std::move(parts)});
  } else if (role == "assistant") {
    add_turn(request.messages, {Role::assistant, std::move(parts)});
  } else {
    item.fail("role", "must be system, developer, user or assistant");
  }
  item.ignore("phase");
}

void read_call(ReadState& state, ObjectReader& item, Request& request) {
  ToolCall call{.id = item.required_text("call_id"),
                .name = item.required_text("name"),
                .arguments = item.text_or("arguments"),
                .signature = {}};
  if (const json::value* extra = item.take("extra_content")) {
    ObjectReader vendors(state, *extra, item.path("extra_content"));
    if (const json::value* google = vendors.take("google"))
      call.signature = ObjectReader(state, *google, item.path("extra_content.google"))
                           .text_or("thought_signature");
  }
  add_turn(request.messages, {Role::assistant, {Part{std::move(call)}}});
}

void read_result(ReadState& state, ObjectReader& item, Request& request) {
  ToolResult result{.call_id = item.required_text("call_id"), .name = {}, .content = {}};
  result.content = read_parts(state, item, "output");
  add_turn(request.messages, {Role::user, {Part{std::move(result)}}});
}

// One that another service has sealed says nothing to anybody else.
void read_thought(ReadState& state, ObjectReader& item, Request& request) {
  Thinking thinking = read_seal(item.text_or("encrypted_content"));
  item.ignore("content");
  const json::array* summary = item.array("summary");
  for (std::size_t i = 0; summary != nullptr && i < summary->size(); ++i)
    thinking.text +=
        ObjectReader(state, (*summary)[i], indexed(item.path("summary"), i)).text_or("text");
  if (thinking.vendor == Vendor::none) return;
  add_turn(request.messages, {Role::assistant, {Part{std::move(thinking)}}});
}

void read_item(ReadState& state, const json::value& value, const std::string& path,
               Request& request) {
  ObjectReader item(state, value, path);
  const std::string type = item.text_or("type", "message");
  item.ignore("id");
  item.ignore("status");
  if (type == "message") {
    read_message(state, item, request);
  } else if (type == "function_call") {
    read_call(state, item, request);
  } else if (type == "function_call_output") {
    read_result(state, item, request);
  } else if (type == "reasoning") {
    read_thought(state, item, request);
  } else if (type == "item_reference") {
    return item.fail("type", "points to what one vendor keeps; send the item itself");
  } else {
    state.untranslatable.push_back(path);
    return;
  }
  item.done();
}

void read_input(ReadState& state, ObjectReader& body, Request& request) {
  if (const auto instructions = body.text("instructions"); instructions && !instructions->empty())
    request.system.push_back({Text{*instructions}});
  const json::value* input = body.take("input");
  if (input == nullptr) return body.fail("input", "is missing");
  if (const auto* text = input->if_string()) {
    request.messages.push_back({Role::user, {Part{Text{std::string(*text)}}}});
    return;
  }
  const json::array* items = input->if_array();
  if (items == nullptr || items->empty())
    return body.fail("input", "must be a text, or an array with at least one item");
  for (std::size_t i = 0; i < items->size(); ++i)
    read_item(state, (*items)[i], indexed("input", i), request);
  results_first(request.messages);
}

void read_tools(ReadState& state, ObjectReader& body, Request& request) {
  const json::array* tools = body.array("tools");
  for (std::size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string path = indexed("tools", i);
    ObjectReader tool(state, (*tools)[i], path);
    if (tool.required_text("type") != "function") {
      state.untranslatable.push_back(path);  // the vendor's own: web search, files, computers
      continue;
    }
    Tool read{.name = tool.required_text("name"),
              .description = tool.text_or("description"),
              .parameters = {}};
    if (const json::value* parameters = tool.take("parameters")) read.parameters = *parameters;
    read.strict = tool.boolean("strict");
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
    else if (*word == "required")
      request.tool_choice = {Mode::required, {}};
    else
      body.fail("tool_choice", "must be auto, none, required or a function");
    return;
  }
  ObjectReader fields(state, *choice, "tool_choice");
  if (fields.text_or("type") != "function") {
    state.untranslatable.emplace_back("tool_choice");
    return;
  }
  request.tool_choice = {Mode::one, fields.required_text("name")};
}

void read_text(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* text = body.take("text");
  if (text == nullptr) return;
  ObjectReader fields(state, *text, "text");
  if (fields.text_or("verbosity", "medium") != "medium")
    state.untranslatable.push_back(fields.path("verbosity"));
  const json::value* format = fields.take("format");
  if (format == nullptr) return;
  ObjectReader named(state, *format, "text.format");
  const std::string type = named.required_text("type");
  using Kind = OutputFormat::Kind;
  if (type == "json_object") request.format.kind = Kind::json;
  if (type != "json_schema") {
    if (type != "json_object" && type != "text")
      named.fail("type", "must be text, json_object or json_schema");
    return;
  }
  request.format = {.kind = Kind::schema,
                    .name = named.text_or("name"),
                    .description = named.text_or("description"),
                    .schema = {},
                    .strict = named.boolean("strict")};
  if (const json::value* schema = named.take("schema")) request.format.schema = *schema;
}

void read_reasoning(ReadState& state, ObjectReader& body, Request& request) {
  const json::value* reasoning = body.take("reasoning");
  if (reasoning == nullptr) return;
  ObjectReader fields(state, *reasoning, "reasoning");
  request.reasoning.effort = fields.text_or("effort");
  if (request.reasoning.effort == "none")
    request.reasoning = {.enabled = false, .budget = {}, .effort = {}, .shown = {}};
  if (fields.text("summary") || fields.text("generate_summary")) request.reasoning.shown = true;
}

// What else is to be included is of this API's own kind.
void read_probabilities(ReadState& state, ObjectReader& body) {
  if (body.integer("top_logprobs").value_or(0) != 0)
    state.untranslatable.emplace_back("top_logprobs");
  const std::vector<std::string> more = body.texts("include");
  if (std::ranges::find(more, "message.output_text.logprobs") != more.end())
    state.untranslatable.emplace_back("include");
}

}  // namespace

std::expected<Request, Problem> read_request(const json::value& value) {
  constexpr std::array<std::string_view, 8> kOfNoOthersConcern{
      "store",          "metadata",         "service_tier",           "safety_identifier",
      "stream_options", "prompt_cache_key", "prompt_cache_retention", "truncation"};
  ReadState state;
  ObjectReader body(state, value, "");
  Request request;
  request.model = body.required_text("model");
  refuse_state(body);
  read_input(state, body, request);
  read_tools(state, body, request);
  read_tool_choice(state, body, request);
  request.parallel_tool_calls = body.boolean("parallel_tool_calls");
  read_text(state, body, request);
  read_reasoning(state, body, request);
  request.max_tokens = body.integer("max_output_tokens");
  request.temperature = body.number("temperature");
  request.top_p = body.number("top_p");
  request.stream = body.boolean("stream").value_or(false);
  request.end_user = body.text_or("user");
  read_probabilities(state, body);
  for (const std::string_view key : kOfNoOthersConcern)
    body.ignore(key);
  body.done();
  if (state.problem) return std::unexpected(*state.problem);
  request.untranslatable = std::move(state.untranslatable);
  return request;
}

}  // namespace sluice::gateway::ai::responses
