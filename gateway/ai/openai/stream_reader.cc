#include <map>
#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include "gateway/ai/openai/openai.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::openai {
namespace {

// Chunks say neither when a part begins nor when it ends: that follows from what comes next. Calls
// of tools may interleave by their `index`, so they stay open until the end.
class Reader final : public StreamReader {
 public:
  void read(const SseEvent& event, Deltas& out) override {
    if (over_) return;
    if (event.data == "[DONE]") {
      close_all(out);
      over_ = true;
      out.push_back(
          finished_
              ? Delta{Done{}}
              : Delta{Failure{Problem::upstream("the stream ended without a finish_reason")}});
      return;
    }
    boost::system::error_code error;
    const json::value value = json::parse(event.data, error);
    if (error || !value.is_object()) return fail("a chunk of the stream is not a JSON object", out);
    // Mistral's errors have their fields at the top.
    const json::value* kind = value.get_object().if_contains("object");
    if (value.get_object().contains("error") || (kind != nullptr && *kind == "error")) {
      return fail(read_problem(502, value), out);
    }
    chunk(value, out);
  }

  // Some leave the last word out: after a finish_reason nothing is missing.
  void end(Deltas& out) override {
    if (over_) return;
    if (!finished_) return fail("the stream broke off", out);
    over_ = true;
    out.push_back(Done{});
  }

 private:
  void chunk(const json::value& value, Deltas& out) {
    ReadState state;
    ObjectReader body(state, value, "");
    if (!begun_) {
      begun_ = true;
      out.push_back(Begin{body.text_or("id"), body.text_or("model")});
    }
    if (const json::value* usage = body.take("usage"); usage != nullptr && usage->is_object())
      out.push_back(UsageSoFar{usage_from_openai(usage->get_object())});
    const json::array* choices = body.array("choices");
    for (std::size_t i = 0; choices != nullptr && i < choices->size(); ++i) {
      ObjectReader choice(state, (*choices)[i], indexed("choices", i));
      if (choice.integer("index").value_or(0) != 0) continue;
      if (const json::value* delta = choice.take("delta")) read_delta(state, *delta, out);
      if (const auto reason = choice.text("finish_reason")) finish(*reason, out);
    }
    if (state.failed()) fail(describe(*state.problem), out);
  }

  void read_delta(ReadState& state, const json::value& value, Deltas& out) {
    ObjectReader delta(state, value, "delta");
    std::optional<std::string> thought = delta.text("reasoning_content");
    if (!thought) thought = delta.text("reasoning");
    if (thought) text(PartKind::thinking, std::move(*thought), out);
    for (Part& part : read_content(state, delta))
      add(std::move(part), out);
    if (auto refusal = delta.text("refusal")) text(PartKind::refusal, std::move(*refusal), out);
    const json::array* calls = delta.array("tool_calls");
    for (std::size_t i = 0; calls != nullptr && i < calls->size(); ++i)
      call(state, (*calls)[i], i, out);
  }

  // Of a content. What seals a thought of Mistral's is left out: where it came from is not said.
  void add(Part part, Deltas& out) {
    if (auto* said = std::get_if<Text>(&part.content))
      text(PartKind::text, std::move(said->text), out);
    else if (auto* thought = std::get_if<Thinking>(&part.content))
      text(PartKind::thinking, std::move(thought->text), out);
    else if (auto* refusal = std::get_if<Refusal>(&part.content))
      text(PartKind::refusal, std::move(refusal->text), out);
  }

  void text(PartKind kind, std::string piece, Deltas& out) {
    if (piece.empty()) return;
    if (!running_ || running_kind_ != kind) {
      close_running(out);
      running_ = next_part_++;
      running_kind_ = kind;
      out.push_back(PartBegin{*running_, kind});
    }
    out.push_back(PartDelta{*running_, std::move(piece)});
  }

  void call(ReadState& state, const json::value& value, std::size_t place, Deltas& out) {
    ObjectReader fields(state, value, indexed("delta.tool_calls", place));
    const auto index = fields.integer("index").value_or(static_cast<std::int64_t>(place));
    std::string id = fields.text_or("id");
    std::string name;
    std::string arguments;
    if (const json::value* function = fields.take("function")) {
      ObjectReader named(state, *function, fields.path("function"));
      name = named.text_or("name");
      arguments = named.text_or("arguments");
    }
    auto known = calls_.find(index);
    // Some services give every call the same index: another id, with a name, is another call.
    if (known != calls_.end() && !known->second.id.empty() && !id.empty() && !name.empty() &&
        id != known->second.id) {
      out.push_back(PartEnd{known->second.part});
      calls_.erase(known);
      known = calls_.end();
    }
    if (known == calls_.end()) {
      if (id.empty() && name.empty()) return;  // a ghost: no call of anything
      close_running(out);
      known = calls_.emplace(index, Call{next_part_++, id}).first;
      out.push_back(
          PartBegin{known->second.part, PartKind::tool_call, std::move(id), std::move(name)});
    }
    if (!arguments.empty()) out.push_back(PartDelta{known->second.part, std::move(arguments)});
  }

  void finish(const std::string& reason, Deltas& out) {
    if (finished_) return;
    close_all(out);
    finished_ = true;
    out.push_back(Finish{read_stop(reason), reason});
  }

  void close_running(Deltas& out) {
    if (running_) out.push_back(PartEnd{*running_});
    running_.reset();
  }

  void close_all(Deltas& out) {
    close_running(out);
    for (const auto& [index, call] : calls_)
      out.push_back(PartEnd{call.part});
    calls_.clear();
  }

  struct Call {
    std::size_t part = 0;
    std::string id;
  };

  bool begun_ = false;
  bool finished_ = false;
  std::size_t next_part_ = 0;
  std::optional<std::size_t> running_;  // the text or thought that is open
  PartKind running_kind_ = PartKind::text;
  std::map<std::int64_t, Call> calls_;  // by their index in the chunks
};

}  // namespace

std::unique_ptr<StreamReader> stream_reader() {
  return std::make_unique<Reader>();
}

}  // namespace sluice::gateway::ai::openai
