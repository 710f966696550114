#include "gateway/ai/embeddings.h"

#include <bit>
#include <cstdint>

#include <boost/json/array.hpp>

#include "gateway/ai/object_reader.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai {
namespace {

std::expected<EmbeddingRequest, Problem> finished(ReadState& state, EmbeddingRequest request) {
  if (state.problem) return std::unexpected(*state.problem);
  if (!state.untranslatable.empty()) {
    return std::unexpected(Problem::invalid(state.untranslatable.front(),
                                            "cannot be expressed for this model's provider"));
  }
  return request;
}

std::expected<EmbeddingRequest, Problem> read_openai(const json::value& value) {
  ReadState state;
  ObjectReader body(state, value, "");
  EmbeddingRequest request;
  request.texts = body.texts("input");
  if (request.texts.empty()) body.fail("input", "is a text, or a list of texts");
  request.dimensions = body.integer("dimensions");
  request.base64 = body.text_or("encoding_format") == "base64";
  for (const std::string_view key : {"model", "user"})
    body.ignore(key);
  body.done();
  return finished(state, std::move(request));
}

void read_content(ReadState& state, ObjectReader& holder, EmbeddingRequest& request) {
  const json::value* content = holder.take("content");
  if (content == nullptr) return holder.fail("content", "is missing");
  ObjectReader fields(state, *content, holder.path("content"));
  fields.ignore("role");
  std::string text;
  const json::array* parts = fields.array("parts");
  for (std::size_t i = 0; parts != nullptr && i < parts->size(); ++i) {
    ObjectReader part(state, (*parts)[i], indexed(fields.path("parts"), i));
    text += part.required_text("text");
    part.done();
  }
  request.texts.push_back(std::move(text));
  if (const auto dimensions = holder.integer("outputDimensionality"))
    request.dimensions = dimensions;
  for (const std::string_view hint : {"model", "taskType", "title"})
    holder.ignore(hint);
  holder.done();
}

std::expected<EmbeddingRequest, Problem> read_gemini(const json::value& value) {
  ReadState state;
  state.snake_case_too = true;
  ObjectReader body(state, value, "");
  EmbeddingRequest request;
  const json::array* batch = body.array("requests");
  request.single = batch == nullptr;
  if (request.single) read_content(state, body, request);
  for (std::size_t i = 0; batch != nullptr && i < batch->size(); ++i) {
    ObjectReader one(state, (*batch)[i], indexed("requests", i));
    read_content(state, one, request);
  }
  return finished(state, std::move(request));
}

std::expected<std::vector<json::array>, Problem> vectors_of(Shape from, const json::value& body) {
  const bool gemini = from == Shape::gemini;
  ReadState state;
  ObjectReader fields(state, body, "");
  std::vector<json::array> out;
  const json::array* list = fields.array(gemini ? "embeddings" : "data");
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    ObjectReader one(state, (*list)[i], indexed(gemini ? "embeddings" : "data", i));
    const json::array* numbers = one.array(gemini ? "values" : "embedding");
    if (numbers != nullptr) out.push_back(*numbers);
  }
  if (state.problem) return std::unexpected(Problem::upstream(describe(*state.problem)));
  if (list == nullptr || out.size() != list->size())
    return std::unexpected(Problem::upstream("the answer has no embeddings"));
  return out;
}

// 32-bit floats, little-endian, as OpenAI's SDKs read them.
std::string base64_of(const json::array& numbers) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  for (const json::value& number : numbers) {
    const auto word = std::bit_cast<std::uint32_t>(
        static_cast<float>(number.is_number() ? number.to_number<double>() : 0.0));
    for (int shift = 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<char>(word >> shift));
  }
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i)
      group = group << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i)
      out.push_back(at + i <= bytes.size() ? kDigits[group >> (18 - 6 * i) & 63] : '=');
  }
  return out;
}

json::object openai_reply(std::vector<json::array> vectors, const EmbeddingRequest& request,
                          std::string_view model) {
  json::array data;
  for (json::array& numbers : vectors) {
    const auto index = static_cast<std::int64_t>(data.size());
    json::object entry{{"object", "embedding"}, {"index", index}};
    if (request.base64)
      entry["embedding"] = base64_of(numbers);
    else
      entry["embedding"] = std::move(numbers);
    data.push_back(std::move(entry));
  }
  return {{"object", "list"},
          {"data", std::move(data)},
          {"model", model},
          {"usage", {{"prompt_tokens", 0}, {"total_tokens", 0}}}};
}

json::object gemini_reply(std::vector<json::array> vectors, const EmbeddingRequest& request) {
  if (request.single && vectors.size() == 1)
    return {{"embedding", {{"values", std::move(vectors.front())}}}};
  json::array all;
  for (json::array& numbers : vectors)
    all.push_back(json::object{{"values", std::move(numbers)}});
  return {{"embeddings", std::move(all)}};
}

}  // namespace

std::expected<EmbeddingRequest, Problem> read_embedding_request(Shape shape,
                                                                const json::value& body) {
  return shape == Shape::gemini ? read_gemini(body) : read_openai(body);
}

std::expected<json::object, Problem> write_embedding_request(Shape shape,
                                                             const EmbeddingRequest& request,
                                                             std::string_view model) {
  if (shape == Shape::anthropic) {
    return std::unexpected(
        Problem{ProblemKind::not_supported, "Anthropic's API has no embeddings"});
  }
  if (shape == Shape::openai) {
    json::object out{{"model", model},
                     {"input", json::array(request.texts.begin(), request.texts.end())}};
    if (request.dimensions) out["dimensions"] = *request.dimensions;
    return out;
  }
  json::array batch;
  for (const std::string& text : request.texts) {
    json::object one{{"model", "models/" + std::string(model)},
                     {"content", {{"parts", json::array{json::object{{"text", text}}}}}}};
    if (request.dimensions) one["outputDimensionality"] = *request.dimensions;
    batch.push_back(std::move(one));
  }
  return json::object{{"requests", std::move(batch)}};
}

std::expected<json::object, Problem> write_embedding_reply(Shape from, const json::value& body,
                                                           Shape to,
                                                           const EmbeddingRequest& request,
                                                           std::string_view model) {
  auto vectors = vectors_of(from, body);
  if (!vectors) return std::unexpected(vectors.error());
  if (to == Shape::gemini) return gemini_reply(std::move(*vectors), request);
  return openai_reply(std::move(*vectors), request, model);
}

}  // namespace sluice::gateway::ai
