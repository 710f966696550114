#include <boost/json/array.hpp>

#include "gateway/ai/effort.h"
#include "gateway/ai/media.h"
#include "gateway/ai/openai/mistral_ids.h"
#include "gateway/ai/openai/openai.h"
#include "gateway/ai/untranslatable.h"

namespace sluice::gateway::ai::openai {
namespace {

constexpr std::int64_t kLowEffort = 2048;     // tokens of reasoning up to which it is "low"
constexpr std::int64_t kMediumEffort = 8192;  // and "medium"

class Writer {
 public:
  Writer(const Request& request, const WriteOptions& options)
      : request_(request),
        dialect_(options.dialect),
        called_(request.messages),
        lost_(options, options.dialect == Dialect::mistral ? "Mistral" : "OpenAI's chat API") {}

  std::expected<WrittenRequest, Problem> write() {
    lost_.fields(request_.untranslatable);
    body_["model"] = request_.model;
    write_messages();
    write_tools();
    write_format();
    write_sampling();
    write_reasoning();
    write_stream();
    if (!request_.end_user.empty() && dialect_ == Dialect::openai)
      body_["user"] = request_.end_user;
    if (lost_.problem()) return std::unexpected(*lost_.problem());
    return WrittenRequest{std::move(body_), lost_.take_dropped()};
  }

 private:
  void write_messages() {
    json::array messages;
    if (const std::string system = joined_text(request_.system, "\n\n"); !system.empty())
      messages.push_back({{"role", "system"}, {"content", system}});
    for (const Message& message : request_.messages) {
      if (message.role == Role::assistant)
        messages.push_back(assistant(message));
      else
        write_user(message, messages);
    }
    // Mistral wants to be asked: an answer that is begun is marked as such.
    if (dialect_ == Dialect::mistral && !messages.empty() &&
        messages.back().at("role") == "assistant")
      messages.back().get_object()["prefix"] = true;
    if (messages.empty()) lost_.fail("messages", "say nothing that this API would take");
    body_["messages"] = std::move(messages);
  }

  // Results become messages of their own, at once after the calls; what they cannot hold, and what
  // the user says besides, is one message after them.
  void write_user(const Message& message, json::array& messages) {
    json::array content;
    for (const Part& part : message.parts) {
      if (const auto* result = std::get_if<ToolResult>(&part.content))
        messages.push_back(tool(*result, content));
    }
    for (const Part& part : message.parts)
      if (!std::holds_alternative<ToolResult>(part.content)) add_part(part, content);
    if (content.empty()) return;
    messages.push_back({{"role", "user"}, {"content", plain(std::move(content))}});
  }

  json::object tool(const ToolResult& result, json::array& after) {
    for (const Part& part : result.content)
      if (!std::holds_alternative<Text>(part.content)) add_part(part, after);
    json::object message{{"role", "tool"},
                         {"tool_call_id", call_id(result.call_id)},
                         {"content", joined_text(result.content, "\n")}};
    if (dialect_ == Dialect::mistral) {
      const std::string name = result.name.empty() ? called_.name_of(result.call_id) : result.name;
      if (!name.empty()) message["name"] = name;
    }
    return message;
  }

  json::object assistant(const Message& message) {
    json::object out{{"role", "assistant"}};
    json::array calls;
    json::array thoughts;
    for (const Part& part : message.parts) {
      if (const auto* call = std::get_if<ToolCall>(&part.content)) {
        ToolCall renamed = *call;
        renamed.id = call_id(call->id);
        calls.push_back(write_tool_call(renamed));
      } else if (const auto* refusal = std::get_if<Refusal>(&part.content)) {
        out["refusal"] = refusal->text;
      } else if (const auto* thinking = std::get_if<Thinking>(&part.content)) {
        if (dialect_ == Dialect::mistral && thinking->vendor == Vendor::mistral)
          thoughts.push_back(mistrals_thought(*thinking));
        else
          lost_.hint("thinking");  // another vendor's: it could not be checked
      }
    }
    const std::string text = joined_text(message.parts, "");
    out["content"] = text.empty() ? json::value(nullptr) : json::value(text);
    if (!thoughts.empty()) {
      if (!text.empty()) thoughts.push_back({{"type", "text"}, {"text", text}});
      out["content"] = std::move(thoughts);
    }
    if (!calls.empty()) out["tool_calls"] = std::move(calls);
    return out;
  }

  static json::object mistrals_thought(const Thinking& thinking) {
    json::object out{
        {"type", "thinking"},
        {"thinking", json::array{json::object{{"type", "text"}, {"text", thinking.text}}}}};
    if (!thinking.signature.empty()) out["signature"] = thinking.signature;
    return out;
  }

  void add_part(const Part& part, json::array& content) {
    if (part.cache) lost_.hint("cache_control");
    if (const auto* text = std::get_if<Text>(&part.content)) {
      content.push_back({{"type", "text"}, {"text", text->text}});
    } else if (const auto* image = std::get_if<Image>(&part.content)) {
      json::object url{
          {"url", image->url.empty() ? data_url(image->media_type, image->data) : image->url}};
      if (!image->detail.empty()) url["detail"] = image->detail;
      content.push_back({{"type", "image_url"}, {"image_url", std::move(url)}});
    } else if (const auto* document = std::get_if<Document>(&part.content)) {
      add_document(*document, content);
    } else if (const auto* audio = std::get_if<Audio>(&part.content)) {
      content.push_back({{"type", "input_audio"},
                         {"input_audio", {{"data", audio->data}, {"format", audio->format}}}});
    }
  }

  void add_document(const Document& document, json::array& content) {
    if (!document.url.empty()) return lost_.field("a document by URL");
    content.push_back(
        {{"type", "file"},
         {"file",
          {{"filename", document.name.empty() ? std::string("document") : document.name},
           {"file_data", data_url(document.media_type, document.data)}}}});
  }

  // One text alone is a string, which every compatible service understands.
  static json::value plain(json::array content) {
    if (content.size() == 1 && content[0].at("type") == "text") return content[0].at("text");
    return content;
  }

  std::string call_id(const std::string& id) {
    return dialect_ == Dialect::mistral ? ids_(id) : id;
  }

  void write_tools() {
    if (request_.tools.empty()) return;
    json::array tools;
    for (const Tool& tool : request_.tools) {
      json::object function{{"name", tool.name}};
      if (!tool.description.empty()) function["description"] = tool.description;
      function["parameters"] =
          tool.parameters.is_object()
              ? tool.parameters
              : json::value{{"type", "object"}, {"properties", json::object{}}};
      if (tool.strict && dialect_ == Dialect::openai) function["strict"] = *tool.strict;
      if (tool.cache) lost_.hint("cache_control");
      tools.push_back({{"type", "function"}, {"function", std::move(function)}});
    }
    body_["tools"] = std::move(tools);
    if (request_.parallel_tool_calls) body_["parallel_tool_calls"] = *request_.parallel_tool_calls;
    if (request_.tool_choice) body_["tool_choice"] = tool_choice(*request_.tool_choice);
  }

  json::value tool_choice(const ToolChoice& choice) const {
    switch (choice.mode) {
      case ToolChoice::Mode::automatic:
        return "auto";
      case ToolChoice::Mode::none:
        return "none";
      case ToolChoice::Mode::required:
        return dialect_ == Dialect::mistral ? "any" : "required";
      case ToolChoice::Mode::one:
        break;
    }
    return {{"type", "function"}, {"function", {{"name", choice.name}}}};
  }

  void write_format() {
    const OutputFormat& format = request_.format;
    if (format.kind == OutputFormat::Kind::text) return;
    if (format.kind == OutputFormat::Kind::json) {
      body_["response_format"] = {{"type", "json_object"}};
      return;
    }
    json::object schema{{"name", format.name.empty() ? std::string("answer") : format.name},
                        {"schema", format.schema}};
    if (!format.description.empty()) schema["description"] = format.description;
    if (format.strict) schema["strict"] = *format.strict;
    body_["response_format"] = {{"type", "json_schema"}, {"json_schema", std::move(schema)}};
  }

  void write_sampling() {
    if (request_.max_tokens)
      body_[dialect_ == Dialect::openai ? "max_completion_tokens" : "max_tokens"] =
          *request_.max_tokens;
    if (request_.temperature) body_["temperature"] = *request_.temperature;
    if (request_.top_p) body_["top_p"] = *request_.top_p;
    if (request_.presence_penalty) body_["presence_penalty"] = *request_.presence_penalty;
    if (request_.frequency_penalty) body_["frequency_penalty"] = *request_.frequency_penalty;
    if (request_.seed)
      body_[dialect_ == Dialect::mistral ? "random_seed" : "seed"] = *request_.seed;
    if (request_.top_k) {
      if (dialect_ == Dialect::compatible)
        body_["top_k"] = *request_.top_k;
      else
        lost_.field("top_k");
    }
    if (!request_.stop.empty())
      body_["stop"] = json::array(request_.stop.begin(), request_.stop.end());
  }

  void write_reasoning() {
    const Reasoning& reasoning = request_.reasoning;
    if (const EffortLevel* effort = effort_of(reasoning, lost_)) {
      body_["reasoning_effort"] = word_of(*effort);
    } else if (reasoning.enabled.value_or(false) && reasoning.budget) {
      // Few of Mistral's models take a word for it, and the others refuse any.
      if (dialect_ == Dialect::mistral) return lost_.hint("reasoning");
      body_["reasoning_effort"] = *reasoning.budget <= kLowEffort      ? "low"
                                  : *reasoning.budget <= kMediumEffort ? "medium"
                                                                       : "high";
    }
  }

  // Mistral's API ends at "xhigh"; other services know three words for sure.
  std::string_view word_of(const EffortLevel& effort) const {
    switch (dialect_) {
      case Dialect::openai:
        break;
      case Dialect::mistral:
        return effort.word == "max" ? "xhigh" : effort.word;
      case Dialect::compatible:
        return effort.common;
    }
    return effort.word;
  }

  void write_stream() {
    if (!request_.stream) return;
    body_["stream"] = true;
    // Mistral says the usage unasked, and refuses fields that it does not know.
    if (dialect_ != Dialect::mistral) body_["stream_options"] = {{"include_usage", true}};
  }

  const Request& request_;
  const Dialect dialect_;
  CalledTools called_;
  Untranslatable lost_;
  MistralIds ids_;
  json::object body_;
};

}  // namespace

std::expected<WrittenRequest, Problem> write_request(const Request& request,
                                                     const WriteOptions& options) {
  return Writer(request, options).write();
}

}  // namespace sluice::gateway::ai::openai
