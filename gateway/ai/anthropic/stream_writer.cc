#include <deque>
#include <map>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::anthropic {
namespace {

// Blocks come one after the other here, while the parts of others may interleave: what belongs to a
// later part waits until the one before it has ended.
class Writer final : public StreamWriter {
 public:
  void write(const Delta& delta, std::string& out) override {
    if (over_) return;
    std::visit([&](const auto& kind) { on(kind, out); }, delta);
  }

 private:
  void on(const Begin& begin, std::string& out) {
    event("message_start",
          {{"message",
            {{"id", begin.id},
             {"type", "message"},
             {"role", "assistant"},
             {"model", begin.model},
             {"content", json::array{}},
             {"stop_reason", nullptr},
             {"stop_sequence", nullptr},
             {"usage", anthropic_usage(usage_)}}}},
          out);
  }

  void on(const PartBegin& begin, std::string& out) {
    if (open_ && *open_ != begin.part) {
      waiting_.push_back(begin.part);
      held_[begin.part].push_back(begin);
      return;
    }
    open_ = begin.part;
    kind_ = begin.kind;
    json::object block;
    switch (begin.kind) {
      case PartKind::text:
      case PartKind::refusal:
        block = {{"type", "text"}, {"text", ""}};
        break;
      case PartKind::thinking:
        block = {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
        break;
      case PartKind::tool_call:
        block = {{"type", "tool_use"},
                 {"id", begin.id},
                 {"name", begin.name},
                 {"input", json::object{}}};
        break;
    }
    event("content_block_start", {{"index", index_}, {"content_block", std::move(block)}}, out);
  }

  void on(const PartDelta& delta, std::string& out) {
    if (held(delta, delta.part)) return;
    switch (kind_) {
      case PartKind::text:
      case PartKind::refusal:
        return block_delta({{"type", "text_delta"}, {"text", delta.text}}, out);
      case PartKind::thinking:
        return block_delta({{"type", "thinking_delta"}, {"thinking", delta.text}}, out);
      case PartKind::tool_call:
        return block_delta({{"type", "input_json_delta"}, {"partial_json", delta.text}}, out);
    }
  }

  void on(const PartSignature& signature, std::string& out) {
    if (held(signature, signature.part)) return;
    if (kind_ == PartKind::thinking && !signature.signature.empty())
      block_delta({{"type", "signature_delta"}, {"signature", signature.signature}}, out);
  }

  void on(const PartEnd& end, std::string& out) {
    if (held(end, end.part)) return;
    if (open_ != end.part) return;
    event("content_block_stop", {{"index", index_}}, out);
    ++index_;
    open_.reset();
    if (waiting_.empty()) return;
    const std::size_t next = waiting_.front();
    waiting_.pop_front();
    const Deltas deltas = std::move(held_[next]);
    held_.erase(next);
    for (const Delta& delta : deltas)
      std::visit([&](const auto& kind) { on(kind, out); }, delta);
  }

  void on(const Finish& finish, std::string&) {
    if (write_stop(finish.stop).empty())
      return fail(Problem::unknown_stop(finish.native));
    finish_ = finish;
  }

  void on(const UsageSoFar& usage, std::string&) { usage_ = usage.usage.value_or(Usage{}); }

  void on(const Failure& failure, std::string& out) {
    append_sse(out, "error", json::serialize(write_problem(failure.problem)));
    over_ = true;
  }

  // The usage may have come after the reason to stop.
  void on(const Done&, std::string& out) {
    event(
        "message_delta",
        {{"delta",
          {{"stop_reason", write_stop(finish_.stop)},
           {"stop_sequence", finish_.stop_sequence.empty() ? json::value(nullptr)
                                                           : json::value(finish_.stop_sequence)}}},
         {"usage", anthropic_usage(usage_)}},
        out);
    event("message_stop", {}, out);
    over_ = true;
  }

  template <typename Kind>
  bool held(const Kind& delta, std::size_t part) {
    const auto entry = held_.find(part);
    if (entry == held_.end()) return false;
    entry->second.push_back(delta);
    return true;
  }

  void block_delta(json::object delta, std::string& out) {
    event("content_block_delta", {{"index", index_}, {"delta", std::move(delta)}}, out);
  }

  static void event(std::string_view type, json::object fields, std::string& out) {
    json::object body{{"type", type}};
    for (auto& member : fields)
      body[member.key()] = std::move(member.value());
    append_sse(out, type, json::serialize(body));
  }

  std::optional<std::size_t> open_;
  PartKind kind_ = PartKind::text;  // of the open one
  std::int64_t index_ = 0;          // of the open block, or of the next
  std::deque<std::size_t> waiting_;
  std::map<std::size_t, Deltas> held_;
  Usage usage_;
  Finish finish_;
};

}  // namespace

std::unique_ptr<StreamWriter> stream_writer(const StreamOptions&) {
  return std::make_unique<Writer>();
}

}  // namespace sluice::gateway::ai::anthropic
