#include "gateway/ai/proxy/answer_reader.h"

#include <chrono>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/proxy/vendor_request.h"
#include "gateway/clocks.h"
#include "gateway/http/own_answer.h"

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
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error) value = nullptr;
  return value;
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
  const bool coded = response.fields().has(KnownField::content_encoding);
  if (status_ >= 400) {
    mode_ = Mode::error;
  } else if (is_type(response, "text/event-stream") && !coded) {
    begin_stream(response);
  } else if (same() && !(asked_.collect && !coded && is_type(response, kJson))) {
    mode_ = Mode::pass;
    if (!coded && is_type(response, kJson))
      reply_.emplace(asked_.provider->shape, response.content_length());
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
    filter_ = passing_filter(endpoint.shape, asked_.hide_usage);
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
  http1::ResponseParser parser;
  return parser.parse(head_text_, {}, head) == http1::Progress::complete;
}

void AnswerReader::forget_head() {
  std::string().swap(head_text_);
  std::string().swap(fields_);
}

bool AnswerReader::broken(Problem problem) {
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
  const Shape from = asked_.provider->shape;
  const json::value body = parsed(collected_);
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
  if (asked_.own_key && (status_ == 401 || status_ == 403)) {
    answer_ = problem_answer(asked_.endpoint->shape, own_key_refused(provider));
  } else if (same()) {
    answer_.emplace();
    answer_->status = status_;
    answer_->lines = fields_;
    answer_->body = std::move(collected_);
  } else {
    const json::value body = parsed(collected_);
    answer_ =
        problem_answer(asked_.endpoint->shape, codec(provider.shape).read_problem(status_, body));
    const std::size_t at = fields_.find("retry-after:");
    if (at != std::string::npos)
      answer_->lines += fields_.substr(at, fields_.find('\n', at) + 1 - at);
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
