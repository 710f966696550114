#include "gateway/ai/proxy/vendor_body.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/meter.h"
#include "gateway/ai/object_reader.h"
#include "gateway/ai/openai/mistral_ids.h"
#include "gateway/ai/proxy/path_cost.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::string_view kStreamOptions = "stream_options";
constexpr std::string_view kGeminiModels = "models/";  // before a model's name in Gemini's bodies
// Beyond what JsonText lets in (64 below the top): schemas of tools go deeper than Boost's own 32.
constexpr json::parse_options kDeep{.max_depth = 72};

std::optional<json::object> parsed_object(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, kDeep);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.get_object());
}

bool asks_for_usage(const JsonText& body) {
  const auto options = body.find(kStreamOptions);
  const auto object = options ? parsed_object(*options) : std::nullopt;
  const json::value* asked = object ? object->if_contains("include_usage") : nullptr;
  return asked != nullptr && asked->is_bool() && asked->get_bool();
}

void ask_for_usage(JsonText& body) {
  const auto options = body.find(kStreamOptions);
  json::object object = options ? parsed_object(*options).value_or(json::object{}) : json::object{};
  object["include_usage"] = true;
  body.set(kStreamOptions, json::serialize(object));
}

// What the caller allows the answer, in any of the shapes.
struct AnswerLimits {
  std::optional<std::uint64_t> tokens;
  std::uint64_t answers = 1;
};

constexpr std::uint64_t kMostSaid = 1'000'000'000;

// However it is written: proto's JSON and Python's services take 10.0 and "10" for ten.
std::optional<std::uint64_t> count_of(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '_'; });
  if (text.starts_with('+')) text.erase(0, 1);
  double count = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), count);
  if (read.ptr != text.data() + text.size() || read.ec == std::errc::invalid_argument)
    return std::nullopt;
  if (read.ec == std::errc::result_out_of_range && !text.starts_with('-')) return kMostSaid;
  if (!std::isfinite(count) || count <= 0) return std::nullopt;
  return static_cast<std::uint64_t>(std::min(std::ceil(count), static_cast<double>(kMostSaid)));
}

std::optional<std::uint64_t> count_in(const JsonText& body, std::string_view key) {
  const auto said = body.find(key);
  if (!said) return std::nullopt;
  return count_of(said->starts_with('"') ? body.string(key).value_or("") : std::string(*said));
}

std::optional<std::uint64_t> count_in(const json::object& holder, std::string_view key) {
  const json::value* said = holder.if_contains(key);
  if (said == nullptr) said = holder.if_contains(snake_case(key));
  if (said == nullptr) return std::nullopt;
  return count_of(said->is_string() ? std::string(said->get_string()) : json::serialize(*said));
}

bool is_completions(const Endpoint& endpoint) {
  return endpoint.operation == Operation::other && endpoint.path == "/completions";
}

// A list of texts, or of lists of tokens; what else there is is one.
std::uint64_t prompts_of(const JsonText& body) {
  const auto said = body.find("prompt");
  if (!said || !said->starts_with('[')) return 1;
  boost::system::error_code error;
  const json::value prompts = json::parse(*said, error, {}, kDeep);
  if (error || prompts.get_array().empty() || prompts.get_array().front().is_number()) return 1;
  return prompts.get_array().size();
}

AnswerLimits answer_limits(const JsonText& body, const Endpoint& endpoint) {
  AnswerLimits out;
  for (const std::string_view key : {"max_tokens", "max_completion_tokens", "max_output_tokens"})
    if (const auto count = count_in(body, key)) out.tokens = count;
  out.answers = count_in(body, "n").value_or(1);
  if (is_completions(endpoint)) {
    const std::uint64_t each = std::max(out.answers, count_in(body, "best_of").value_or(1));
    out.answers = std::min(each * prompts_of(body), kMostSaid);
  }
  auto config = body.find("generationConfig");
  if (!config) config = body.find("generation_config");
  const auto object = config ? parsed_object(*config) : std::nullopt;
  if (!object) return out;
  if (const auto count = count_in(*object, "maxOutputTokens")) out.tokens = count;
  if (const auto count = count_in(*object, "candidateCount")) out.answers = *count;
  return out;
}

void fit_id(json::object& holder, std::string_view key, openai::MistralIds& ids) {
  json::value* id = holder.if_contains(key);
  if (id != nullptr && id->is_string()) *id = ids(id->get_string());
}

// What Mistral's API calls otherwise than OpenAI's, or refuses: ids of tool calls that it has not
// made itself, and two fields.
std::string fit_mistral(std::string_view text) {
  auto body = parsed_object(text);
  if (!body) return std::string(text);
  body->erase(kStreamOptions);
  if (json::value* most = body->if_contains("max_completion_tokens")) {
    json::value moved = std::move(*most);
    body->erase("max_completion_tokens");
    if (!body->contains("max_tokens")) (*body)["max_tokens"] = std::move(moved);
  }
  openai::MistralIds ids;
  json::value* messages = body->if_contains("messages");
  json::array* list = messages != nullptr ? messages->if_array() : nullptr;
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    json::object* message = (*list)[i].if_object();
    if (message == nullptr) continue;
    fit_id(*message, "tool_call_id", ids);
    json::value* calls = message->if_contains("tool_calls");
    json::array* made = calls != nullptr ? calls->if_array() : nullptr;
    for (std::size_t n = 0; made != nullptr && n < made->size(); ++n)
      if (json::object* call = (*made)[n].if_object()) fit_id(*call, "id", ids);
  }
  return json::serialize(*body);
}

// Gemini wants the model's name in the body to be the path's.
VendorBody renamed_embedding(std::string_view text, std::string_view model) {
  auto body = parsed_object(text).value_or(json::object{});
  const json::string name(std::string(kGeminiModels).append(model));
  if (body.contains("model")) body["model"] = name;
  json::value* requests = body.if_contains("requests");
  json::array* list = requests != nullptr ? requests->if_array() : nullptr;
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i)
    if (json::object* one = (*list)[i].if_object()) (*one)["model"] = name;
  VendorBody out;
  out.written = json::serialize(body);
  return out;
}

}  // namespace

CallerBody::CallerBody(std::string text, const Endpoint& endpoint)
    : text_(std::move(text)),
      size_(text_.size()),
      endpoint_(endpoint),
      json_(JsonText::scan(text_)),
      model_(read_model()) {}

std::string CallerBody::read_model() const {
  if (!endpoint_.model.empty()) return std::string(endpoint_.model);
  if (has_verb(endpoint_)) return {};  // whom it is for is not for the body to say
  std::string said = json_ ? json_->string("model").value_or("") : "";
  if (endpoint_.shape == Shape::gemini && said.starts_with(kGeminiModels))
    said.erase(0, kGeminiModels.size());
  return said;
}

// As the body has it: with what the caller has put before its own.
std::string CallerBody::name_in_body(std::string_view model) const {
  const bool has_prefix = json_->string("model").value_or("").size() > model_.size();
  return std::string(has_prefix ? kGeminiModels : "").append(model);
}

bool CallerBody::stream() const {
  return endpoint_.stream || (json_ && json_->is_true("stream"));
}

bool CallerBody::wants_usage() const {
  return endpoint_.shape != Shape::openai || (json_ && asks_for_usage(*json_));
}

std::uint64_t CallerBody::estimated_request() const {
  return static_cast<std::uint64_t>(estimated_tokens(size_));
}

void CallerBody::forget() {
  json_.reset();
  request_.reset();
  std::string().swap(text_);
}

TokenEstimate CallerBody::estimate() const {
  const AnswerLimits limits = json_ ? answer_limits(*json_, endpoint_) : AnswerLimits{};
  const std::uint64_t answer = limits.tokens.value_or(usual_answer(endpoint_)) * limits.answers;
  // No more than one answer can be said to have: what is reckoned with both stays a number.
  return {.request = estimated_request(), .answer = std::min(answer, kMostSaid)};
}

std::expected<VendorBody, Problem> CallerBody::for_target(const Provider& provider,
                                                          std::string_view model,
                                                          bool drop_untranslatable) {
  if (is_native(endpoint_, provider)) return same_shape(provider, model);
  return translated(provider, model, drop_untranslatable);
}

std::expected<VendorBody, Problem> CallerBody::same_shape(const Provider& provider,
                                                          std::string_view model) {
  VendorBody out;
  out.callers = text_;
  if (!json_) return out;
  if (provider.shape == Shape::gemini && endpoint_.operation == Operation::embeddings &&
      endpoint_.model != model) {
    return renamed_embedding(text_, model);
  }
  const bool renames = endpoint_.model.empty() && json_->find("model") && model_ != model;
  const bool streams = provider.shape == Shape::openai && stream() &&
                       (endpoint_.operation == Operation::chat || is_completions(endpoint_));
  out.hide_usage = streams && provider.dialect != Dialect::mistral && !asks_for_usage(*json_);
  if (renames || out.hide_usage) {
    JsonText edited = *json_;
    if (renames) edited.set("model", json_string(name_in_body(model)));
    if (out.hide_usage) ask_for_usage(edited);
    out.written = edited.text();
  }
  if (provider.dialect == Dialect::mistral &&
      (json_->find(kStreamOptions) || json_->find("max_completion_tokens") ||
       out.text().find("tool_call") != std::string_view::npos)) {
    out.written = fit_mistral(out.text());
  }
  return out;
}

std::expected<VendorBody, Problem> CallerBody::translated(const Provider& provider,
                                                          std::string_view model,
                                                          bool drop_untranslatable) {
  if (endpoint_.operation == Operation::embeddings) return translated_embedding(provider, model);
  if (!request_) {
    boost::system::error_code error;
    const json::value value = json::parse(text_, error, {}, kDeep);
    if (error) return std::unexpected(Problem::invalid("", "the body is not JSON"));
    request_ =
        std::make_unique<std::expected<Request, Problem>>(codec(endpoint_).read_request(value));
  }
  if (!*request_) return std::unexpected(request_->error());
  Request request = **request_;
  request.model = model;
  request.stream = stream();
  WriteOptions options;
  options.dialect = provider.dialect;
  options.drop_untranslatable = drop_untranslatable;
  auto written = codec(provider.shape).write_request(request, options);
  if (!written) return std::unexpected(written.error());
  VendorBody out;
  out.written = json::serialize(written->body);
  out.dropped = std::move(written->dropped);
  return out;
}

std::expected<VendorBody, Problem> CallerBody::translated_embedding(const Provider& provider,
                                                                    std::string_view model) {
  if (!embedding_) {
    boost::system::error_code error;
    const json::value value = json::parse(text_, error);
    if (error) return std::unexpected(Problem::invalid("", "the body is not JSON"));
    auto read = read_embedding_request(endpoint_.shape, value);
    if (!read) return std::unexpected(read.error());
    embedding_ = std::move(*read);
  }
  auto written = write_embedding_request(provider.shape, *embedding_, model);
  if (!written) return std::unexpected(written.error());
  VendorBody out;
  out.written = json::serialize(*written);
  return out;
}

}  // namespace sluice::gateway::ai
