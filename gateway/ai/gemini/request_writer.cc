#include <boost/json/array.hpp>

#include "gateway/ai/effort.h"
#include "gateway/ai/gemini/gemini.h"
#include "gateway/ai/media.h"

namespace sluice::gateway::ai::gemini {
namespace {

// What Google documents for calls that another model made: it asks for a signature of its own.
constexpr std::string_view kForeignSignature = "skip_thought_signature_validator";

constexpr std::size_t kReferences = 4UL << 20;  // bytes that those of all schemas become

class Writer {
 public:
  Writer(const Request& request, const WriteOptions& options)
      : request_(request), called_(request.messages), lost_(options, "Gemini's API") {}

  std::expected<WrittenRequest, Problem> write() {
    lost_.fields(request_.untranslatable);
    write_system();
    write_contents();
    write_tools();
    write_config();
    if (!request_.end_user.empty()) lost_.hint("user");
    if (request_.parallel_tool_calls && !*request_.parallel_tool_calls)
      lost_.field("parallel_tool_calls");
    if (lost_.problem()) return std::unexpected(*lost_.problem());
    return WrittenRequest{std::move(body_), lost_.take_dropped()};
  }

 private:
  void write_system() {
    if (const std::string text = joined_text(request_.system, "\n\n"); !text.empty())
      body_["systemInstruction"] =
          json::object{{"parts", json::array{json::object{{"text", text}}}}};
  }

  void write_contents() {
    json::array contents;
    for (const Message& message : request_.messages) {
      json::array parts =
          message.role == Role::assistant ? model_parts(message) : user_parts(message);
      if (parts.empty()) continue;
      contents.push_back({{"role", message.role == Role::assistant ? "model" : "user"},
                          {"parts", std::move(parts)}});
    }
    if (contents.empty()) lost_.fail("messages", "say nothing that Gemini's API would take");
    body_["contents"] = std::move(contents);
  }

  json::array model_parts(const Message& message) {
    json::array parts;
    bool first_call = true;
    for (const Part& part : message.parts) {
      if (std::holds_alternative<Thinking>(part.content)) {
        lost_.hint("thinking");
        continue;
      }
      const auto* call = std::get_if<ToolCall>(&part.content);
      if (call != nullptr && !parse_arguments(call->arguments)) {
        lost_.fail("tool_calls", "the arguments of call " + call->id + " are not a JSON object");
        continue;
      }
      auto written = write_model_part(part);
      if (!written) continue;
      if (call != nullptr && first_call && call->signature.empty())
        (*written)["thoughtSignature"] = kForeignSignature;
      if (call != nullptr) first_call = false;
      parts.push_back(std::move(*written));
    }
    return parts;
  }

  json::array user_parts(const Message& message) {
    json::array parts;
    for (const Part& part : message.parts)
      if (const auto* result = std::get_if<ToolResult>(&part.content)) add_result(*result, parts);
    for (const Part& part : message.parts)
      add_media(part, parts);
    return parts;
  }

  void add_result(const ToolResult& result, json::array& parts) {
    const std::string name = result.name.empty() ? called_.name_of(result.call_id) : result.name;
    if (name.empty())
      return lost_.fail("tool_call_id", "no earlier message calls \"" + result.call_id + "\"");
    json::object response{{result.failed ? "error" : "output", joined_text(result.content, "\n")}};
    parts.push_back(
        json::object{{"functionResponse", {{"name", name}, {"response", std::move(response)}}}});
    for (const Part& part : result.content)
      if (!std::holds_alternative<Text>(part.content)) add_media(part, parts);
  }

  void add_media(const Part& part, json::array& parts) {
    if (part.cache) lost_.hint("cache_control");
    if (const auto* text = std::get_if<Text>(&part.content)) {
      parts.push_back(json::object{{"text", text->text}});
    } else if (const auto* image = std::get_if<Image>(&part.content)) {
      add_blob(image->media_type, image->data, image->url, parts);
    } else if (const auto* document = std::get_if<Document>(&part.content)) {
      add_blob(document->media_type, document->data, document->url, parts);
    } else if (const auto* audio = std::get_if<Audio>(&part.content)) {
      add_blob("audio/" + audio->format, audio->data, {}, parts);
    }
  }

  static void add_blob(const std::string& media_type, const std::string& data,
                       const std::string& url, json::array& parts) {
    if (url.empty()) {
      parts.push_back(json::object{{"inlineData", {{"mimeType", media_type}, {"data", data}}}});
      return;
    }
    json::object file{{"fileUri", url}};
    if (!media_type.empty()) file["mimeType"] = media_type;
    parts.push_back(json::object{{"fileData", std::move(file)}});
  }

  void write_tools() {
    if (request_.tools.empty()) return;
    json::array functions;
    for (std::size_t i = 0; i < request_.tools.size(); ++i) {
      const Tool& tool = request_.tools[i];
      json::object function{{"name", tool.name}};
      if (!tool.description.empty()) function["description"] = tool.description;
      const json::object* schema = tool.parameters.if_object();
      if (schema != nullptr && !schema->empty())
        function["parameters"] =
            write_schema(tool.parameters, indexed("tools", i) + ".parameters", lost_, room_);
      functions.push_back(std::move(function));
    }
    body_["tools"] = json::array{json::object{{"functionDeclarations", std::move(functions)}}};
    if (request_.tool_choice) write_tool_choice(*request_.tool_choice);
  }

  void write_tool_choice(const ToolChoice& choice) {
    using Mode = ToolChoice::Mode;
    json::object config{{"mode", choice.mode == Mode::automatic ? "AUTO"
                                 : choice.mode == Mode::none    ? "NONE"
                                                                : "ANY"}};
    if (choice.mode == Mode::one) config["allowedFunctionNames"] = json::array{choice.name};
    body_["toolConfig"] = json::object{{"functionCallingConfig", std::move(config)}};
  }

  void write_format(json::object& config) {
    const OutputFormat& format = request_.format;
    if (format.kind == OutputFormat::Kind::text) return;
    if (!request_.tools.empty())
      return lost_.fail("response_format", "Gemini takes either tools or a JSON answer, not both");
    config["responseMimeType"] = "application/json";
    if (format.kind == OutputFormat::Kind::schema)
      config["responseSchema"] =
          write_schema(format.schema, "response_format.schema", lost_, room_);
  }

  void write_thinking(json::object& config) {
    const Reasoning& reasoning = request_.reasoning;
    json::object thinking;
    if (reasoning.enabled.has_value() && !*reasoning.enabled)
      thinking["thinkingBudget"] = 0;
    else if (reasoning.budget)
      thinking["thinkingBudget"] = *reasoning.budget;
    else if (const EffortLevel* effort = effort_of(reasoning, lost_))
      thinking["thinkingBudget"] = effort->gemini;
    if (reasoning.shown.value_or(false)) thinking["includeThoughts"] = true;
    if (!thinking.empty()) config["thinkingConfig"] = std::move(thinking);
  }

  void write_config() {
    json::object config;
    if (request_.max_tokens) config["maxOutputTokens"] = *request_.max_tokens;
    if (request_.temperature) config["temperature"] = *request_.temperature;
    if (request_.top_p) config["topP"] = *request_.top_p;
    if (request_.top_k) config["topK"] = *request_.top_k;
    if (request_.seed) config["seed"] = *request_.seed;
    if (request_.presence_penalty) config["presencePenalty"] = *request_.presence_penalty;
    if (request_.frequency_penalty) config["frequencyPenalty"] = *request_.frequency_penalty;
    if (!request_.stop.empty())
      config["stopSequences"] = json::array(request_.stop.begin(), request_.stop.end());
    write_format(config);
    write_thinking(config);
    if (!config.empty()) body_["generationConfig"] = std::move(config);
  }

  const Request& request_;
  CalledTools called_;
  Untranslatable lost_;
  std::size_t room_ = kReferences;
  json::object body_;
};

}  // namespace

std::expected<WrittenRequest, Problem> write_request(const Request& request,
                                                     const WriteOptions& options) {
  return Writer(request, options).write();
}

}  // namespace sluice::gateway::ai::gemini
