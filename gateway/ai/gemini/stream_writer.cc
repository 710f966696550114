#include <map>
#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/gemini/gemini.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::gemini {
namespace {

// A function call is one piece here: its arguments are gathered until it is complete.
class Writer final : public StreamWriter {
 public:
  void write(const Delta& delta, std::string& out) override {
    if (over_) return;
    std::visit([&](const auto& kind) { on(kind, out); }, delta);
  }

 private:
  struct OpenPart {
    PartKind kind = PartKind::text;
    ToolCall call = {};
  };

  void on(const Begin& begin, std::string&) { begin_ = begin; }

  void on(const PartBegin& begin, std::string&) {
    OpenPart& part = parts_[begin.part];
    part.kind = begin.kind;
    part.call.id = begin.id;
    part.call.name = begin.name;
  }

  void on(const PartDelta& delta, std::string& out) {
    OpenPart& part = parts_[delta.part];
    if (part.kind == PartKind::tool_call) {
      part.call.arguments += delta.text;
      return;
    }
    json::object piece{{"text", delta.text}};
    if (part.kind == PartKind::thinking) piece["thought"] = true;
    content(std::move(piece), out);
  }

  void on(const PartSignature& signature, std::string&) {
    parts_[signature.part].call.signature = signature.signature;
  }

  void on(const PartEnd& end, std::string& out) {
    const auto part = parts_.find(end.part);
    if (part == parts_.end()) return;
    const OpenPart open = std::move(part->second);
    parts_.erase(part);
    if (open.kind != PartKind::tool_call) return;
    if (auto call = write_model_part({open.call})) return content(std::move(*call), out);
    if (!unfinished_) unfinished_ = bad_arguments(open.call);
  }

  void on(const Finish& finish, std::string&) {
    if (write_stop(finish.stop).empty())
      return fail(Problem::unknown_stop(finish.native));
    finish_ = finish;
  }

  void on(const UsageSoFar& usage, std::string&) { usage_ = usage.usage; }

  void on(const Failure& failure, std::string& out) {
    append_sse(out, "", json::serialize(write_problem(failure.problem)));
    over_ = true;
  }

  // Only the reason to stop says whether a call was cut for want of tokens: it is left out then.
  void on(const Done&, std::string& out) {
    if (unfinished_ && finish_.stop != Stop::length) return fail(*std::move(unfinished_));
    json::object candidate{
        {"content", {{"role", "model"}, {"parts", json::array{json::object{{"text", ""}}}}}},
        {"finishReason", write_stop(finish_.stop)},
        {"index", 0}};
    event(std::move(candidate), out);
    over_ = true;
  }

  void content(json::object part, std::string& out) {
    event({{"content", {{"role", "model"}, {"parts", json::array{std::move(part)}}}}, {"index", 0}},
          out);
  }

  void event(json::object candidate, std::string& out) {
    json::object body{{"candidates", json::array{std::move(candidate)}}};
    if (usage_) body["usageMetadata"] = gemini_usage(*usage_);
    body["modelVersion"] = begin_.model;
    body["responseId"] = begin_.id;
    append_sse(out, "", json::serialize(body));
  }

  Begin begin_;
  std::map<std::size_t, OpenPart> parts_;
  std::optional<Usage> usage_;
  Finish finish_;
  std::optional<Problem> unfinished_;
};

}  // namespace

std::unique_ptr<StreamWriter> stream_writer(const StreamOptions&) {
  return std::make_unique<Writer>();
}

}  // namespace sluice::gateway::ai::gemini
