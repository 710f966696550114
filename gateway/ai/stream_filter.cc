#include "gateway/ai/stream_filter.h"

#include <utility>

#include <boost/json/parse.hpp>

#include "gateway/ai/deltas.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kBrokenOff = "the stream broke off";
constexpr std::string_view kTooLarge = "an event of the stream is too large";

// Of a last event without its empty line: some vendors send none, and half of one is none.
bool is_complete(const SseEvent& event) {
  boost::system::error_code error;
  return event.data == "[DONE]" || (json::parse(event.data, error), !error);
}

// Bytes stay as they are; events are only looked at.
class Passing final : public StreamFilter {
 public:
  Passing(Shape shape, bool hide_usage) : meter_(shape), hide_usage_(hide_usage) {}

  void feed(std::string_view bytes, std::string& out) override {
    if (failure_) return;  // what is held stays held
    std::size_t taken = finish_line_end(bytes, out);
    const bool good = parser_.feed(bytes, [&](const SseEvent& event, std::size_t end) {
      if (failure_) return;
      // The parser is done with an event at its last CR; the LF belongs to it.
      if (bytes[end - 1] == '\r' && end < bytes.size() && bytes[end] == '\n') ++end;
      const std::string_view piece = bytes.substr(taken, end - taken);
      taken = end;
      const bool hidden = see(event, piece, out);
      if (bytes[end - 1] == '\r') open_end_ = hidden ? LineEnd::hidden : LineEnd::shown;
    });
    if (!good && !failure_) failure_ = Problem::upstream(std::string(kTooLarge));
    if (failure_) return;
    held_.append(bytes.substr(taken));
    // Comments that keep a connection open go on at once.
    if (begun_ && parser_.at_boundary()) give(out);
  }

  void end(std::string& out) override {
    if (failure_) return;
    parser_.end([&](const SseEvent& event) {
      if (!is_complete(event)) return;
      if (!see(event, "", out) && !failure_) held_.append("\n\n");
    });
    if (failure_) return;
    if (!meter_.whole()) {
      failure_ = Problem::upstream(std::string(kBrokenOff));
      return;
    }
    give(out);
  }

  bool over() const override { return meter_.over() && held_.empty() && !failure_; }

  const std::optional<Problem>& failure() const override { return failure_; }
  const Metered& metered() const override { return meter_.metered(); }

 private:
  // Of an event whose last CR and LF came apart. Returns how many bytes that took.
  std::size_t finish_line_end(std::string_view bytes, std::string& out) {
    if (bytes.empty()) return 0;
    const LineEnd open = std::exchange(open_end_, LineEnd::none);
    if (open == LineEnd::none || bytes.front() != '\n') return 0;
    if (open == LineEnd::shown) {
      held_.push_back('\n');
      if (begun_) give(out);
    }
    return 1;
  }

  // `bytes`: of it, and of comments before it, as far as they are not held. True: it is hidden.
  bool see(const SseEvent& event, std::string_view bytes, std::string& out) {
    const StreamMeter::Seen seen = meter_.see(event);
    if (meter_.failure()) {
      failure_ = meter_.failure();
      return false;
    }
    begun_ = begun_ || seen.content;
    const bool hidden = seen.usage_only && hide_usage_;
    if (hidden) {
      held_.clear();
    } else if (begun_) {
      give(out);
      out.append(bytes);
    } else {
      held_.append(bytes);
    }
    return hidden;
  }
  void give(std::string& out) {
    out.append(held_);
    held_.clear();
  }

  StreamMeter meter_;
  SseParser parser_;
  bool hide_usage_;
  enum class LineEnd : unsigned char { none, shown, hidden };
  LineEnd open_end_ = LineEnd::none;
  bool begun_ = false;
  std::string held_;
  std::optional<Problem> failure_;
};

// An event that is too large to be looked at passes all the same: images are large.
class OpenEnded final : public StreamFilter {
 public:
  explicit OpenEnded(Shape shape) : shape_(shape) {}

  void feed(std::string_view bytes, std::string& out) override {
    out.append(bytes);
    if (readable_) readable_ = parser_.feed(bytes, [&](const SseEvent& event) { see(event); });
  }
  void end(std::string&) override {
    if (readable_) parser_.end([&](const SseEvent& event) { see(event); });
  }
  bool over() const override { return over_; }

  const std::optional<Problem>& failure() const override { return failure_; }
  const Metered& metered() const override { return metered_; }

 private:
  void see(const SseEvent& event) {
    over_ = event.data == "[DONE]";
    if (!over_) meter_event(shape_, event.data, metered_);
  }

  Shape shape_;
  SseParser parser_;
  Metered metered_;
  std::optional<Problem> failure_;
  bool readable_ = true;
  bool over_ = false;
};

class Translating final : public StreamFilter {
 public:
  Translating(Shape from, const ShapeCodec& to, const TranslationOptions& options)
      : reader_(codec(from).stream_reader()),
        writer_(to.stream_writer(options.writer)),
        as_array_(options.as_array) {}

  void feed(std::string_view bytes, std::string& out) override {
    const bool good = parser_.feed(bytes, [&](const SseEvent& event) {
      reader_->read(event, deltas_);
      take(out);
    });
    if (!good && !failure_) failure_ = Problem::upstream(std::string(kTooLarge));
  }

  void end(std::string& out) override {
    parser_.end([&](const SseEvent& event) {
      if (is_complete(event)) reader_->read(event, deltas_);
    });
    take(out);
    reader_->end(deltas_);
    take(out);
    if (!failure_ && !whole_) failure_ = Problem::upstream(std::string(kBrokenOff));
    if (!failure_ && as_array_) out.append(first_ ? "[]" : "]");
  }

  bool over() const override { return whole_ && !as_array_ && !failure_; }

  const std::optional<Problem>& failure() const override { return failure_; }
  const Metered& metered() const override { return metered_; }

 private:
  void take(std::string& out) {
    for (const Delta& delta : deltas_) {
      if (failure_) break;
      note(delta);
      if (failure_) break;
      writer_->write(delta, held_);
      failure_ = writer_->failure();
    }
    deltas_.clear();
    if (begun_) give(out);
  }

  void note(const Delta& delta) {
    if (const auto* begin = std::get_if<Begin>(&delta)) {
      metered_.model = begin->model;
      return;
    }
    if (const auto* usage = std::get_if<UsageSoFar>(&delta)) {
      metered_.usage = usage->usage;
      return;
    }
    if (const auto* failure = std::get_if<Failure>(&delta)) {
      failure_ = failure->problem;
      return;
    }
    begun_ = true;
    if (const auto* piece = std::get_if<PartDelta>(&delta))
      metered_.text_bytes += piece->text.size();
    if (std::holds_alternative<Done>(delta)) whole_ = true;
    const auto* finish = std::get_if<Finish>(&delta);
    if (finish != nullptr && finish->stop == Stop::unknown)
      failure_ = Problem::unknown_stop(finish->native);
  }

  void give(std::string& out) {
    if (!as_array_) {
      out.append(held_);
    } else {
      rewriter_.feed(held_, [&](const SseEvent& event) {
        out.append(first_ ? "[" : ",\n").append(event.data);
        first_ = false;
      });
    }
    held_.clear();
  }

  std::unique_ptr<StreamReader> reader_;
  std::unique_ptr<StreamWriter> writer_;
  SseParser parser_;
  SseParser rewriter_;
  Deltas deltas_;
  Metered metered_;
  std::string held_;
  std::optional<Problem> failure_;
  bool as_array_;
  bool first_ = true;
  bool begun_ = false;
  bool whole_ = false;
};

}  // namespace

std::unique_ptr<StreamFilter> passing_filter(Shape shape, bool hide_usage) {
  return std::make_unique<Passing>(shape, hide_usage);
}

std::unique_ptr<StreamFilter> open_ended_filter(Shape shape) {
  return std::make_unique<OpenEnded>(shape);
}

std::unique_ptr<StreamFilter> translating_filter(Shape from, const ShapeCodec& to,
                                                 const TranslationOptions& options) {
  return std::make_unique<Translating>(from, to, options);
}

std::string broken_stream(const ShapeCodec& shape, const Problem& problem) {
  std::string out;
  shape.stream_writer({})->write(Failure{problem}, out);
  return out;
}

}  // namespace sluice::gateway::ai
