#include <utility>

#include <boost/json/array.hpp>

#include "gateway/ai/responses/responses.h"

namespace sluice::gateway::ai::responses {
namespace {

class Writer {
 public:
  explicit Writer(const Reply& reply) : reply_(reply) {}

  json::array write() {
    for (const Part& part : reply_.parts)
      std::visit([&](const auto& kind) { on(kind); }, part.content);
    end_message();
    return std::move(items_);
  }

 private:
  void on(const Text& text) {
    if (!text.text.empty()) content_.push_back(text_part(text.text));
  }
  void on(const Refusal& refusal) { content_.push_back(refusal_part(refusal.text)); }
  void on(const Thinking& thinking) {
    end_message();
    items_.push_back(thought_item(item_id("rs", reply_.id, items_.size()), thinking));
  }
  void on(const ToolCall& call) {
    end_message();
    ToolCall said = call;
    if (said.arguments.empty()) said.arguments = "{}";
    items_.push_back(call_item(item_id("fc", reply_.id, items_.size()), said, "completed"));
  }
  // No vendor answers with them.
  void on(const Image&) {}
  void on(const Document&) {}
  void on(const Audio&) {}
  void on(const ToolResult&) {}

  void end_message() {
    if (content_.empty()) return;
    items_.push_back(message_item(item_id("msg", reply_.id, items_.size()),
                                  std::exchange(content_, {}), "completed"));
  }

  const Reply& reply_;
  json::array items_;
  json::array content_;  // of the message that is being made
};

}  // namespace

std::expected<json::object, Problem> write_reply(const Reply& reply, std::int64_t created) {
  json::object out = response_object(reply.id, reply.model, created, "completed");
  if (ended(reply.stop, out).empty())
    return std::unexpected(Problem::unknown_stop(reply.native_stop));
  out["output"] = Writer(reply).write();
  if (reply.usage) out["usage"] = usage_object(*reply.usage);
  return out;
}

}  // namespace sluice::gateway::ai::responses
