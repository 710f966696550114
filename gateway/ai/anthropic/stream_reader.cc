#include <map>

#include <boost/json/parse.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::anthropic {
namespace {

class Reader final : public StreamReader {
 public:
  void read(const SseEvent& event, Deltas& out) override {
    if (over_) return;
    boost::system::error_code error;
    const json::value value = json::parse(event.data, error);
    if (error) return fail("an event of the stream is not JSON", out);
    ReadState state;
    ObjectReader body(state, value, "");
    const std::string type = body.required_text("type");
    if (type == "message_start")
      start(state, body, out);
    else if (type == "content_block_start")
      block_start(state, body, out);
    else if (type == "content_block_delta")
      block_delta(state, body, out);
    else if (type == "content_block_stop")
      block_stop(body, out);
    else if (type == "message_delta")
      message_delta(state, body, out);
    else if (type == "message_stop")
      stop(out);
    else if (type == "error")
      fail(read_problem(502, value), out);
    // `ping`, and what is yet to come, say nothing.
    if (state.failed() && !over_) fail(describe(*state.problem), out);
  }

  void end(Deltas& out) override {
    if (!over_) fail("the stream broke off", out);
  }

 private:
  void start(ReadState& state, ObjectReader& body, Deltas& out) {
    const json::value* value = body.take("message");
    if (value == nullptr) return body.fail("message", "is missing");
    ObjectReader message(state, *value, "message");
    out.push_back(Begin{message.text_or("id"), message.text_or("model")});
    usage(message, out);
  }

  // Counts come in two places, each with a part of them; those of the input may come again.
  void usage(ObjectReader& holder, Deltas& out) {
    const json::value* value = holder.take("usage");
    if (value == nullptr || !value->is_object()) return;
    for (const auto& member : value->get_object())
      counts_[member.key()] = member.value();
    out.push_back(UsageSoFar{usage_from_anthropic(counts_)});
  }

  void block_start(ReadState& state, ObjectReader& body, Deltas& out) {
    const auto index = body.integer("index").value_or(0);
    const json::value* value = body.take("content_block");
    if (value == nullptr) return body.fail("content_block", "is missing");
    ObjectReader block(state, *value, "content_block");
    const std::string type = block.required_text("type");
    PartBegin begin{.part = next_part_, .kind = PartKind::text};
    if (type == "tool_use") {
      begin.kind = PartKind::tool_call;
      begin.id = block.text_or("id");
      begin.name = block.text_or("name");
    } else if (type == "thinking" || type == "redacted_thinking") {
      begin.kind = PartKind::thinking;
    } else if (type != "text") {
      return fail(
          "the stream holds a block of type " + type + ", which only Anthropic's shape can say",
          out);
    }
    parts_[index] = next_part_++;
    out.push_back(begin);
    if (type == "redacted_thinking")
      out.push_back(PartSignature{begin.part, {}, block.text_or("data")});
    if (auto text = block.text_or("text"); !text.empty())
      out.push_back(PartDelta{begin.part, std::move(text)});
  }

  void block_delta(ReadState& state, ObjectReader& body, Deltas& out) {
    const auto part = parts_.find(body.integer("index").value_or(0));
    const json::value* value = body.take("delta");
    if (part == parts_.end() || value == nullptr)
      return body.fail("index", "is of a block that has not begun");
    ObjectReader delta(state, *value, "delta");
    const std::string type = delta.required_text("type");
    if (type == "signature_delta") {
      out.push_back(PartSignature{part->second, delta.text_or("signature")});
      return;
    }
    for (const auto* key : {"text", "partial_json", "thinking"})
      if (auto piece = delta.text_or(key); !piece.empty())
        out.push_back(PartDelta{part->second, std::move(piece)});
  }

  void block_stop(ObjectReader& body, Deltas& out) {
    const auto part = parts_.find(body.integer("index").value_or(0));
    if (part == parts_.end()) return;
    out.push_back(PartEnd{part->second});
    parts_.erase(part);
  }

  void message_delta(ReadState& state, ObjectReader& body, Deltas& out) {
    usage(body, out);
    const json::value* value = body.take("delta");
    if (value == nullptr) return;
    ObjectReader delta(state, *value, "delta");
    const auto reason = delta.text("stop_reason");
    if (!reason) return;
    finished_ = true;
    out.push_back(Finish{read_stop(*reason), *reason, delta.text_or("stop_sequence")});
  }

  void stop(Deltas& out) {
    if (!finished_) return fail("the stream ended without a stop_reason", out);
    over_ = true;
    out.push_back(Done{});
  }

  bool finished_ = false;
  std::size_t next_part_ = 0;
  std::map<std::int64_t, std::size_t> parts_;  // index of an open block -> part
  json::object counts_;
};

}  // namespace

std::unique_ptr<StreamReader> stream_reader() {
  return std::make_unique<Reader>();
}

}  // namespace sluice::gateway::ai::anthropic
