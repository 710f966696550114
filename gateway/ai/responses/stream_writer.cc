#include <map>
#include <optional>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/openai/openai.h"
#include "gateway/ai/responses/responses.h"

namespace sluice::gateway::ai::responses {
namespace {

// Several items may be open at a time: each event says of which it is.
class Writer final : public StreamWriter {
 public:
  explicit Writer(const StreamOptions& options) : options_(options) {}

  void write(const Delta& delta, std::string& out) override {
    if (over_) return;
    std::visit([&](const auto& kind) { on(kind, out); }, delta);
  }

 private:
  struct Item {
    PartKind kind = PartKind::text;
    std::size_t place = 0;
    std::string id;
    std::string text;  // so far; or arguments
    ToolCall call;
    Thinking thinking;
    bool begun = false;  // of a thought: its summary
  };

  void on(const Begin& begin, std::string& out) {
    begin_ = begin;
    for (const char* type : {"response.created", "response.in_progress"})
      event(type, {{"response", response("in_progress")}}, out);
  }

  void on(const PartBegin& begin, std::string& out) {
    Item& item = items_[begin.part];
    item.kind = begin.kind;
    item.place = output_.size();
    output_.emplace_back();  // until it is done
    switch (begin.kind) {
      case PartKind::text:
      case PartKind::refusal:
        item.id = item_id("msg", begin_.id, item.place);
        added(item, message_item(item.id, {}, "in_progress"), out);
        return event_of(item, "response.content_part.added", "content_index",
                        {{"part", part(item, "")}}, out);
      case PartKind::thinking:
        item.id = item_id("rs", begin_.id, item.place);
        return added(item, thought_item(item.id, {}), out);
      case PartKind::tool_call:
        item.id = item_id("fc", begin_.id, item.place);
        item.call = {.id = begin.id, .name = begin.name, .arguments = {}, .signature = {}};
        return added(item, call_item(item.id, item.call, "in_progress"), out);
    }
  }

  void on(const PartDelta& delta, std::string& out) {
    const auto known = items_.find(delta.part);
    if (known == items_.end()) return;
    Item& item = known->second;
    item.text += delta.text;
    switch (item.kind) {
      case PartKind::text:
        return event_of(item, "response.output_text.delta", "content_index",
                        {{"delta", delta.text}, {"logprobs", json::array{}}}, out);
      case PartKind::refusal:
        return event_of(item, "response.refusal.delta", "content_index", {{"delta", delta.text}},
                        out);
      case PartKind::thinking:
        begin_summary(item, out);
        return event_of(item, "response.reasoning_summary_text.delta", "summary_index",
                        {{"delta", delta.text}}, out);
      case PartKind::tool_call:
        return event_of(item, "response.function_call_arguments.delta", "",
                        {{"delta", delta.text}}, out);
    }
  }

  void on(const PartSignature& signature, std::string&) {
    const auto known = items_.find(signature.part);
    if (known == items_.end()) return;
    Item& item = known->second;
    if (item.kind == PartKind::tool_call) item.call.signature += signature.signature;
    item.thinking.signature += signature.signature;
    item.thinking.redacted += signature.redacted;
    // Gemini seals calls, not thoughts.
    item.thinking.vendor = Vendor::anthropic;
  }

  void on(const PartEnd& end, std::string& out) {
    const auto known = items_.find(end.part);
    if (known == items_.end()) return;
    finish(known->second, out);
    items_.erase(known);
  }

  void on(const Finish& finish, std::string&) {
    json::object tried;
    if (ended(finish.stop, tried).empty())
      return fail(Problem::unknown_stop(finish.native));
    stop_ = finish.stop;
  }

  void on(const UsageSoFar& usage, std::string&) { usage_ = usage.usage; }

  void on(const Failure& failure, std::string& out) {
    append_sse(out, "error", json::serialize(openai::write_problem(failure.problem)));
    over_ = true;
  }

  void on(const Done&, std::string& out) {
    for (auto& [part, item] : items_)
      finish(item, out);
    items_.clear();
    json::object last = response("completed");
    const std::string type = "response." + std::string(ended(stop_, last));
    json::array output;
    for (json::object& item : output_)
      output.push_back(std::move(item));
    last["output"] = std::move(output);
    if (usage_) last["usage"] = usage_object(*usage_);
    event(type, {{"response", std::move(last)}}, out);
    over_ = true;
  }

  void begin_summary(Item& item, std::string& out) {
    if (std::exchange(item.begun, true)) return;
    event_of(item, "response.reasoning_summary_part.added", "summary_index",
             {{"part", {{"type", "summary_text"}, {"text", ""}}}}, out);
  }

  void finish(Item& item, std::string& out) {
    json::object whole;
    switch (item.kind) {
      case PartKind::text:
      case PartKind::refusal: {
        const bool text = item.kind == PartKind::text;
        event_of(item, text ? "response.output_text.done" : "response.refusal.done",
                 "content_index", {{text ? "text" : "refusal", item.text}}, out);
        event_of(item, "response.content_part.done", "content_index",
                 {{"part", part(item, item.text)}}, out);
        whole = message_item(item.id, {part(item, item.text)}, "completed");
        break;
      }
      case PartKind::thinking:
        if (item.begun) {
          event_of(item, "response.reasoning_summary_text.done", "summary_index",
                   {{"text", item.text}}, out);
          event_of(item, "response.reasoning_summary_part.done", "summary_index",
                   {{"part", {{"type", "summary_text"}, {"text", item.text}}}}, out);
        }
        item.thinking.text = item.text;
        whole = thought_item(item.id, item.thinking);
        break;
      case PartKind::tool_call:
        if (item.text.empty()) item.text = "{}";
        event_of(item, "response.function_call_arguments.done", "",
                 {{"name", item.call.name}, {"arguments", item.text}}, out);
        item.call.arguments = item.text;
        whole = call_item(item.id, item.call, "completed");
        break;
    }
    event("response.output_item.done", {{"output_index", item.place}, {"item", whole}}, out);
    output_[item.place] = std::move(whole);
  }

  static json::object part(const Item& item, std::string_view text) {
    return item.kind == PartKind::refusal ? refusal_part(text) : text_part(text);
  }

  void added(const Item& item, json::object whole, std::string& out) {
    event("response.output_item.added",
          {{"output_index", item.place}, {"item", std::move(whole)}}, out);
  }

  // `index`: what numbers the parts of such an item, of which it has one.
  void event_of(const Item& item, std::string_view type, std::string_view index,
                json::object fields, std::string& out) {
    json::object said{{"item_id", item.id}, {"output_index", item.place}};
    if (!index.empty()) said[index] = 0;
    for (auto& field : fields)
      said[field.key()] = std::move(field.value());
    event(type, std::move(said), out);
  }

  void event(std::string_view type, json::object fields, std::string& out) {
    json::object said{{"type", type}, {"sequence_number", next_++}};
    for (auto& field : fields)
      said[field.key()] = std::move(field.value());
    append_sse(out, type, json::serialize(said));
  }

  json::object response(std::string_view status) const {
    return response_object(begin_.id, begin_.model, options_.created, status);
  }

  const StreamOptions options_;
  Begin begin_;
  std::map<std::size_t, Item> items_;  // those that are open, by the part's number
  std::vector<json::object> output_;
  std::int64_t next_ = 0;
  Stop stop_ = Stop::end;
  std::optional<Usage> usage_;
};

}  // namespace

std::unique_ptr<StreamWriter> stream_writer(const StreamOptions& options) {
  return std::make_unique<Writer>(options);
}

}  // namespace sluice::gateway::ai::responses
