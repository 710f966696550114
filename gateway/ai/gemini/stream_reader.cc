#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include "gateway/ai/gemini/gemini.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai::gemini {
namespace {

// Each event is a whole answer with the next piece of it; there is no last word, so the end of the
// connection after a finishReason is the end.
class Reader final : public StreamReader {
 public:
  void read(const SseEvent& event, Deltas& out) override {
    if (over_) return;
    boost::system::error_code error;
    const json::value value = json::parse(event.data, error);
    if (error || !value.is_object())
      return fail("an event of the stream is not a JSON object", out);
    if (value.get_object().contains("error")) {
      return fail(read_problem(502, value), out);
    }
    ReadState state;
    ObjectReader body(state, value, "");
    if (!begun_) {
      begun_ = true;
      id_ = body.text_or("responseId");
      out.push_back(Begin{id_, body.text_or("modelVersion")});
    }
    if (const json::value* usage = body.take("usageMetadata");
        usage != nullptr && usage->is_object())
      out.push_back(UsageSoFar{usage_from_gemini(usage->get_object())});
    if (const json::array* candidates = body.array("candidates");
        candidates && !candidates->empty())
      candidate(state, candidates->front(), out);
    else if (const json::value* feedback = body.take("promptFeedback"))
      finish(Stop::content_filter,
             ObjectReader(state, *feedback, "promptFeedback").text_or("blockReason"), out);
    if (state.failed()) fail(describe(*state.problem), out);
  }

  void end(Deltas& out) override {
    if (over_) return;
    if (!finished_) return fail("the stream broke off", out);
    over_ = true;
    out.push_back(Done{});
  }

 private:
  void candidate(ReadState& state, const json::value& value, Deltas& out) {
    ObjectReader fields(state, value, "candidates[0]");
    if (fields.integer("index").value_or(0) != 0) return;
    if (const json::value* content = fields.take("content")) {
      ObjectReader parts(state, *content, "candidates[0].content");
      for (Part& part : read_parts(state, parts, "call_" + id_ + '_', calls_))
        add(std::move(part), out);
    }
    if (const auto reason = fields.text("finishReason"))
      finish(read_stop(*reason, calls_ > 0), *reason, out);
  }

  void add(Part part, Deltas& out) {
    if (auto* text = std::get_if<Text>(&part.content)) {
      piece(PartKind::text, std::move(text->text), out);
    } else if (auto* thinking = std::get_if<Thinking>(&part.content)) {
      piece(PartKind::thinking, std::move(thinking->text), out);
    } else if (auto* call = std::get_if<ToolCall>(&part.content)) {
      close(out);
      const std::size_t number = next_part_++;
      out.push_back(PartBegin{number, PartKind::tool_call, call->id, call->name});
      if (!call->signature.empty()) out.push_back(PartSignature{number, call->signature});
      out.push_back(PartDelta{number, std::move(call->arguments)});
      out.push_back(PartEnd{number});
    }
  }

  void piece(PartKind kind, std::string text, Deltas& out) {
    if (text.empty()) return;
    if (!open_ || kind_ != kind) {
      close(out);
      open_ = next_part_++;
      kind_ = kind;
      out.push_back(PartBegin{*open_, kind});
    }
    out.push_back(PartDelta{*open_, std::move(text)});
  }

  void close(Deltas& out) {
    if (open_) out.push_back(PartEnd{*open_});
    open_.reset();
  }

  void finish(Stop stop, const std::string& native, Deltas& out) {
    if (finished_) return;
    close(out);
    finished_ = true;
    out.push_back(Finish{stop, native});
  }

  bool begun_ = false;
  bool finished_ = false;
  std::string id_;
  std::size_t calls_ = 0;
  std::size_t next_part_ = 0;
  std::optional<std::size_t> open_;
  PartKind kind_ = PartKind::text;
};

}  // namespace

std::unique_ptr<StreamReader> stream_reader() {
  return std::make_unique<Reader>();
}

}  // namespace sluice::gateway::ai::gemini
