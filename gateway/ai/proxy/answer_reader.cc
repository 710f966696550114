#include "gateway/ai/proxy/answer_reader.h"

#include <chrono>

#include <boost/json/serialize.hpp>

#include "gateway/ai/error_body.h"
#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/proxy/rate_limit_rest.h"
#include "gateway/ai/proxy/vendor_request.h"
#include "gateway/clocks.h"
#include "gateway/http/own_answer.h"
#include "gateway/http1/head_writer.h"

namespace sluice::gateway::ai {
namespace {

using http1::KnownField;

constexpr std::size_t kMaxWhole = 64UL << 20;  // bytes of an answer that is written anew
constexpr std::size_t kAdded = 128;            // bytes of a head, as a rule
constexpr std::string_view kJson = "application/json";
constexpr int kAnthropicOverloaded = 529;
constexpr int kAnthropicBilling = 402;

bool is_type(const http1::ResponseHead& response, std::string_view type) {
  const std::string_view value = response.fields().first(KnownField::content_type);
  return http1::equals_ignoring_case(value.substr(0, type.size()), type);
}

json::value parsed(std::string_view text) {
  return parse_leniently(text).value_or(nullptr);
}

// Ours to the vendor, not the caller's: it cannot do anything about it.
Problem own_key_refused(const Provider& provider) {
  return Problem::upstream("provider " + provider.name + " does not take the gateway's key");
}

}  // namespace

http::Mediator::Answer problem_answer(Shape shape, const Problem& problem) {
  http::Mediator::Answer answer;
  answer.status = http_status(problem.kind);
  if (shape == Shape::anthropic && problem.kind == ProblemKind::overloaded)
    answer.status = kAnthropicOverloaded;
  if (shape == Shape::anthropic && problem.kind == ProblemKind::budget)
    answer.status = kAnthropicBilling;
  answer.lines = "content-type: application/json\r\n";
  answer.body = json::serialize(codec(shape).write_problem(problem));
  answer.reason = describe(problem);
  return answer;
}

void AnswerReader::head(const http1::ResponseHead& response) {
  status_ = response.status();
  const bool other = asked_.endpoint->operation == Operation::other ||
                     asked_.endpoint->operation == Operation::models;
  fields_.clear();
  fields_.reserve(kAdded);
  write_answer_fields(response, other && same(), fields_);
  coded_ = is_coded(response);
  type_ = response.fields().first(KnownField::content_type);
  retry_after_ = response.fields().first(KnownField::retry_after);
  const bool json = is_type(response, kJson);
  if (status_ >= 400) {
    mode_ = Mode::error;
  } else if (coded_ && (!same() || asked_.collect || asked_.budgeted)) {
    mode_ = Mode::whole;
    broken(unreadable("has a content-encoding, which was not asked for"));
  } else if (is_type(response, "text/event-stream") && !coded_) {
    begin_stream(response);
  } else if (same() && !(asked_.collect && (json || promises_json()))) {
    mode_ = Mode::pass;
    if (!coded_ && json) reply_.emplace(asked_.provider->shape, response.content_length());
    make_head(response, true);
    started_ = true;
  } else {
    mode_ = Mode::whole;
  }
}

void AnswerReader::begin_stream(const http1::ResponseHead& response) {
  mode_ = Mode::stream;
  const Endpoint& endpoint = *asked_.endpoint;
  if (same()) {
    filter_ = streams_chat(endpoint) ? passing_filter(endpoint.shape, asked_.hide_usage)
                                     : open_ended_filter(endpoint.shape);
  } else {
    TranslationOptions options;
    options.writer = {.usage = asked_.wants_usage, .created = unix_now()};
    options.as_array = asked_.as_array;
    filter_ = translating_filter(asked_.provider->shape, codec(endpoint), options);
    fields_ = asked_.as_array ? "content-type: application/json\r\n"
                              : "content-type: text/event-stream\r\n";
    fields_ += "cache-control: no-cache\r\n";
  }
  make_head(response, false);
}

// In HTTP/1.1's form, as heads go between the two sides.
void AnswerReader::make_head(const http1::ResponseHead& response, bool same_length) {
  head_text_.reserve(fields_.size() + asked_.lines.size() + kAdded);
  head_text_.assign("HTTP/1.1 ").append(std::to_string(status_)).append(" ");
  head_text_.append(http::reason_phrase(status_)).append("\r\n");
  head_text_.append(fields_).append(asked_.lines);
  if (same_length && response.body() == http1::BodyKind::length) {
    head_text_.append("content-length: ")
        .append(std::to_string(response.content_length()))
        .append("\r\n");
  } else if (same_length && response.body() == http1::BodyKind::none) {
    if (http::has_length(status_)) head_text_.append("content-length: 0\r\n");
  } else {
    head_text_.append("transfer-encoding: chunked\r\n");
  }
  head_text_.append("\r\n");
}

// Together with the gateway's own lines it may have become too large.
bool AnswerReader::read_head(http1::ResponseHead& head) const {
  return http1::read_own_response(head_text_, head);
}

void AnswerReader::forget_head() {
  std::string().swap(head_text_);
  std::string().swap(fields_);
}

// All answers to such calls are JSON, or events.
bool AnswerReader::promises_json() const {
  const Operation operation = asked_.endpoint->operation;
  return is_chat(operation) || operation == Operation::embeddings;
}

bool AnswerReader::is_coded(const http1::ResponseHead& response) const {
  const std::string_view coding = response.fields().first(KnownField::content_encoding);
  return !coding.empty() && !http1::equals_ignoring_case(coding, "identity");
}

Problem AnswerReader::unreadable(std::string_view what) const {
  std::string message = "provider " + asked_.provider->name + "'s answer ";
  message.append(what).append(" (status ").append(std::to_string(status_)).append(", ");
  message.append(type_.empty() ? "no content-type" : type_).append(")");
  return Problem::upstream(std::move(message));
}

// Some vendors repeat the key that they have been shown. What is shorter than any vendor's key is
// one that nobody looks at, and may be a word.
void AnswerReader::hide_key(std::string& text) const {
  constexpr std::size_t kShortest = 8;
  constexpr std::string_view kMask = "[key]";
  const std::string_view key = asked_.key;
  if (key.size() < kShortest) return;
  for (std::size_t at = text.find(key); at != std::string::npos;
       at = text.find(key, at + kMask.size()))
    text.replace(at, key.size(), kMask);
}

bool AnswerReader::broken(Problem problem) {
  hide_key(problem.message);
  problem_ = std::move(problem);
  return false;
}

bool AnswerReader::data(std::string_view bytes, std::string& out) {
  if (problem_) return false;
  switch (mode_) {
    case Mode::stream:
      filter_->feed(bytes, out);
      started_ = started_ || !out.empty();
      if (filter_->failure()) return broken(*filter_->failure());
      return true;
    case Mode::pass:
      out.append(bytes);
      if (reply_) reply_->feed(bytes);
      if (is_chat(asked_.endpoint->operation)) metered_.text_bytes += bytes.size();
      return true;
    case Mode::whole:
    case Mode::error:
    case Mode::none:
      break;
  }
  if (collected_.size() + bytes.size() > kMaxWhole)
    return broken(Problem::upstream("the provider's answer is too large"));
  collected_.append(bytes);
  return true;
}

bool AnswerReader::end(std::string& out) {
  if (problem_) return false;
  switch (mode_) {
    case Mode::stream:
      filter_->end(out);
      if (filter_->failure()) return broken(*filter_->failure());
      started_ = true;
      return true;
    case Mode::pass:
      if (reply_) reply_->end(metered_);
      return true;
    case Mode::whole:
      return finish_whole();
    case Mode::error:
      return finish_error();
    case Mode::none:
      break;
  }
  return broken(Problem::upstream("the provider did not answer"));
}

bool AnswerReader::finish_whole() {
  static const json::value kNothing;
  const Shape from = asked_.provider->shape;
  const std::optional<json::value> read = parse_leniently(collected_);
  if (!read && (!same() || promises_json())) return broken(unreadable("is no JSON"));
  const json::value& body = read ? *read : kNothing;
  if (is_chat(asked_.endpoint->operation)) metered_.text_bytes = collected_.size();
  meter_reply(from, body, metered_);
  std::string lines = fields_;
  std::string text;
  if (same()) {
    text = std::move(collected_);
  } else {
    const auto written = translated(body);
    if (!written) return broken(written.error());
    lines = "content-type: application/json\r\n";
    text = json::serialize(*written);
  }
  answer_.emplace();
  answer_->status = status_;
  answer_->lines = lines + asked_.lines;
  answer_->body = std::move(text);
  return true;
}

std::expected<json::object, Problem> AnswerReader::translated(const json::value& body) const {
  const Shape from = asked_.provider->shape;
  const Shape to = asked_.endpoint->shape;
  if (asked_.embedding != nullptr)
    return write_embedding_reply(from, body, to, *asked_.embedding, asked_.model);
  const auto reply = codec(from).read_reply(body);
  if (!reply) return std::unexpected(reply.error());
  return codec(*asked_.endpoint).write_reply(*reply, unix_now());
}

bool AnswerReader::finish_error() {
  const Provider& provider = *asked_.provider;
  const json::value body = coded_ ? json::value() : parsed(collected_);
  error_rest_ = rest_said(body);
  if (!asked_.key.empty() && refuses_key(body)) {
    key_refused_ = true;
    return broken(own_key_refused(provider));
  }
  if (!asked_.key.empty() && (status_ == 401 || status_ == 403)) {
    answer_ = problem_answer(asked_.endpoint->shape, own_key_refused(provider));
  } else if (same() && !coded_) {
    hide_key(collected_);
    answer_.emplace();
    answer_->status = status_;
    answer_->lines = fields_;
    answer_->body = std::move(collected_);
  } else {
    Problem problem = codec(provider.shape).read_problem(status_, body);
    hide_key(problem.message);
    answer_ = problem_answer(asked_.endpoint->shape, problem);
    if (!retry_after_.empty()) {
      answer_->lines += "retry-after: " + retry_after_ + "\r\n";
    } else if (error_rest_) {
      const auto seconds = std::chrono::ceil<std::chrono::seconds>(*error_rest_);
      answer_->lines += "retry-after: " + std::to_string(seconds.count()) + "\r\n";
    }
  }
  answer_->lines += asked_.lines;
  answer_->reason = "provider " + provider.name + " answered with " + std::to_string(status_);
  return true;
}

std::string AnswerReader::last_word(const Problem& problem) const {
  if (mode_ != Mode::stream || !started_ || asked_.as_array) return {};
  return broken_stream(codec(*asked_.endpoint), problem);
}

}  // namespace sluice::gateway::ai
