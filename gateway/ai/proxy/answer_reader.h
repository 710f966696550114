// A vendor's answer on its way to the caller: which form it has, what the caller gets of it, and
// what it says of itself.
#pragma once

#include <chrono>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ai/embeddings.h"
#include "gateway/ai/endpoint.h"
#include "gateway/ai/meter.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/reply_meter.h"
#include "gateway/ai/stream_filter.h"
#include "gateway/http/mediator.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::ai {

// What the caller has asked for, as far as the answer depends on it.
struct Asked {
  const Endpoint* endpoint = nullptr;
  const Provider* provider = nullptr;
  bool stream = false;
  bool hide_usage = false;
  bool wants_usage = true;
  bool as_array = false;                        // Gemini's stream without SSE
  std::string_view key = {};  // of the gateway's that the vendor was shown; "": none
  bool collect = false;  // what is no stream goes on as a whole, and what cannot be read not at all
  bool budgeted = false;                        // what cannot be counted does not go on
  const EmbeddingRequest* embedding = nullptr;  // of another shape than the provider's
  std::string_view model = {};                  // as the provider calls it
  std::string lines = {};                       // of the gateway's own, for the answer's head
};

// Of one try.
class AnswerReader {
 public:
  explicit AnswerReader(Asked asked) : asked_(std::move(asked)) {}

  void head(const http1::ResponseHead& response);
  // False: broken, see problem().
  bool data(std::string_view bytes, std::string& out);
  bool end(std::string& out);

  const std::optional<Problem>& problem() const { return problem_; }
  // The vendor has said so by other means than the status.
  bool key_refused() const { return key_refused_; }
  // Something of the answer can go on, with the head that read_head() reads.
  bool started() const { return started_; }
  bool read_head(http1::ResponseHead& head) const;
  void forget_head();  // it is with the caller
  std::optional<http::Mediator::Answer>& answer() { return answer_; }
  // The last event for a caller whose stream breaks off; "" where there is none.
  std::string last_word(const Problem& problem) const;

  const Metered& metered() const { return filter_ ? filter_->metered() : metered_; }
  // A stream whose last event has gone on to the caller.
  bool over() const { return mode_ == Mode::stream && !problem_ && filter_->over(); }
  // The vendor has worked: something of an answer has come, not of an error.
  bool streams() const { return mode_ == Mode::stream; }
  // There is neither a head nor, of a stream, anything of the answer. What is collected as a whole
  // has begun with its head.
  bool waits_for_first() const {
    return mode_ == Mode::none || (mode_ == Mode::stream && !started_);
  }
  bool answered() const {
    return mode_ == Mode::pass || mode_ == Mode::stream || mode_ == Mode::whole;
  }
  int status() const { return status_; }
  // As the body of an error says.
  const std::optional<std::chrono::milliseconds>& error_rest() const { return error_rest_; }

 private:
  enum class Mode : std::uint8_t { none, pass, stream, whole, error };

  void begin_stream(const http1::ResponseHead& response);
  void make_head(const http1::ResponseHead& response, bool same_length);
  bool broken(Problem problem);
  bool finish_whole();
  bool promises_json() const;
  bool is_coded(const http1::ResponseHead& response) const;
  Problem unreadable(std::string_view what) const;
  void hide_key(std::string& text) const;
  std::expected<json::object, Problem> translated(const json::value& body) const;
  bool finish_error();
  bool same() const { return is_native(*asked_.endpoint, *asked_.provider); }

  Asked asked_;
  Mode mode_ = Mode::none;
  int status_ = 0;
  bool coded_ = false;       // its content-encoding hides what it says
  std::string type_;         // content-type
  std::string retry_after_;  // the same
  std::string fields_;       // of the vendor's head, for the caller
  std::string collected_;
  std::optional<ReplyMeter> reply_;  // of JSON that passes
  std::unique_ptr<StreamFilter> filter_;
  Metered metered_;
  std::optional<Problem> problem_;
  bool key_refused_ = false;
  std::optional<std::chrono::milliseconds> error_rest_;
  std::string head_text_;
  bool started_ = false;
  std::optional<http::Mediator::Answer> answer_;
};

// An error in the caller's own shape.
http::Mediator::Answer problem_answer(Shape shape, const Problem& problem);

}  // namespace sluice::gateway::ai
