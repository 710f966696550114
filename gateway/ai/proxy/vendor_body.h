// The request's body as a target gets it: byte for byte but for the model's name where it speaks
// the caller's shape, else written anew.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/embeddings.h"
#include "gateway/ai/endpoint.h"
#include "gateway/ai/json_text.h"
#include "gateway/ai/problem.h"
#include "gateway/ai/proxy/catalog.h"

namespace sluice::gateway::ai {

struct VendorBody {
  std::string text;
  bool hide_usage = false;           // of a stream it was asked for by us alone
  std::vector<std::string> dropped;  // paths that the target has no words for
};

// Of one call; what is parsed once serves all its tries.
class CallerBody {
 public:
  // `endpoint` outlives it.
  CallerBody(std::string text, const Endpoint& endpoint);
  CallerBody(const CallerBody&) = delete;
  CallerBody& operator=(const CallerBody&) = delete;

  bool is_object() const { return json_.has_value(); }
  std::string model() const;  // "": it names none
  bool stream() const;        // of Gemini the path says so
  // OpenAI's callers get usage in a stream only where they ask for it.
  bool wants_usage() const;
  // Of the request and of the answer that it may get, as a limit has to reckon beforehand: the
  // body's bytes, and what the caller allows the answer, or kUsualAnswer.
  std::uint64_t estimated_tokens() const;
  static constexpr std::uint64_t kUsualAnswer = 512;

  // Of a call for embeddings that another shape answers.
  const std::optional<EmbeddingRequest>& embedding() const { return embedding_; }

  std::expected<VendorBody, Problem> for_target(const Provider& provider, std::string_view model,
                                                bool drop_untranslatable);

 private:
  std::expected<VendorBody, Problem> same_shape(const Provider& provider, std::string_view model);
  std::expected<VendorBody, Problem> translated(const Provider& provider, std::string_view model,
                                                bool drop_untranslatable);

  std::string text_;
  const Endpoint& endpoint_;
  std::optional<JsonText> json_;
  std::expected<VendorBody, Problem> translated_embedding(const Provider& provider,
                                                          std::string_view model);

  std::optional<std::expected<Request, Problem>> request_;
  std::optional<EmbeddingRequest> embedding_;
};

}  // namespace sluice::gateway::ai
