#include <map>
#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/openai/openai.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::openai {
namespace {

class Writer final : public StreamWriter {
 public:
  explicit Writer(const StreamOptions& options) : options_(options) {}

  void write(const Delta& delta, std::string& out) override {
    if (over_) return;
    std::visit([&](const auto& kind) { on(kind, out); }, delta);
  }

 private:
  struct OpenPart {
    PartKind kind = PartKind::text;
    std::int64_t call = 0;  // of a tool call: its own index, counted from 0
    Thinking thinking = {};
  };

  void on(const Begin& begin, std::string& out) {
    begin_ = begin;
    chunk({{"role", "assistant"}, {"content", ""}}, {}, out);
  }

  void on(const PartBegin& begin, std::string& out) {
    OpenPart& part = parts_[begin.part];
    part.kind = begin.kind;
    if (begin.kind != PartKind::tool_call) return;
    part.call = next_call_++;
    chunk_call({{"index", part.call},
                {"id", begin.id},
                {"type", "function"},
                {"function", {{"name", begin.name}, {"arguments", ""}}}},
               out);
  }

  void on(const PartDelta& delta, std::string& out) {
    OpenPart& part = parts_[delta.part];
    switch (part.kind) {
      case PartKind::text:
        return chunk({{"content", delta.text}}, {}, out);
      case PartKind::refusal:
        return chunk({{"refusal", delta.text}}, {}, out);
      case PartKind::thinking:
        part.thinking.text += delta.text;
        return chunk({{"reasoning_content", delta.text}}, {}, out);
      case PartKind::tool_call:
        return chunk_call({{"index", part.call}, {"function", {{"arguments", delta.text}}}}, out);
    }
  }

  void on(const PartSignature& signature, std::string& out) {
    OpenPart& part = parts_[signature.part];
    part.thinking.signature += signature.signature;
    part.thinking.redacted += signature.redacted;
    // SDKs take it for granted that each piece of a call has its function.
    if (part.kind == PartKind::tool_call)
      chunk_call({{"index", part.call},
                  {"function", {{"arguments", ""}}},
                  {"extra_content", {{"google", {{"thought_signature", signature.signature}}}}}},
                 out);
  }

  // A sealed thought is given whole, so that the caller can send it back as it is.
  void on(const PartEnd& end, std::string& out) {
    const auto part = parts_.find(end.part);
    if (part == parts_.end()) return;
    const Thinking& thinking = part->second.thinking;
    if (part->second.kind == PartKind::thinking &&
        (!thinking.signature.empty() || !thinking.redacted.empty()))
      chunk({{"thinking_blocks", json::array{write_thought(thinking)}}}, {}, out);
    parts_.erase(part);
  }

  void on(const Finish& finish, std::string& out) {
    const std::string_view reason = write_stop(finish.stop);
    if (reason.empty()) return fail(Problem::unknown_stop(finish.native));
    chunk({}, {{"finish_reason", reason}}, out);
  }

  void on(const UsageSoFar& usage, std::string&) { usage_ = usage.usage; }

  void on(const Failure& failure, std::string& out) {
    append_sse(out, "", json::serialize(write_problem(failure.problem)));
    over_ = true;
  }

  void on(const Done&, std::string& out) {
    if (options_.usage && usage_) {
      json::object last = head();
      last["choices"] = json::array{};
      last["usage"] = openai_usage(*usage_);
      append_sse(out, "", json::serialize(last));
    }
    append_sse(out, "", "[DONE]");
    over_ = true;
  }

  json::object head() const {
    return {{"id", begin_.id},
            {"object", "chat.completion.chunk"},
            {"created", options_.created},
            {"model", begin_.model}};
  }

  void chunk_call(json::object call, std::string& out) {
    chunk({{"tool_calls", json::array{std::move(call)}}}, {}, out);
  }

  void chunk(json::object delta, json::object more, std::string& out) {
    json::object choice{{"index", 0}, {"delta", std::move(delta)}, {"finish_reason", nullptr}};
    for (auto& member : more)
      choice[member.key()] = std::move(member.value());
    json::object body = head();
    body["choices"] = json::array{std::move(choice)};
    append_sse(out, "", json::serialize(body));
  }

  const StreamOptions options_;
  Begin begin_;
  std::map<std::size_t, OpenPart> parts_;  // those that are open
  std::int64_t next_call_ = 0;
  std::optional<Usage> usage_;
};

}  // namespace

std::unique_ptr<StreamWriter> stream_writer(const StreamOptions& options) {
  return std::make_unique<Writer>(options);
}

}  // namespace sluice::gateway::ai::openai
