// The request's body as a target gets it: byte for byte but for the model's name where it speaks
// the caller's shape, else written anew.
#pragma once

#include <expected>
#include <memory>
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
  std::optional<std::string> written = {};  // nullopt: the caller's own bytes
  std::string_view callers = {};            // these, which outlive it
  std::string_view text() const { return written ? std::string_view(*written) : callers; }

  bool hide_usage = false;                // of a stream it was asked for by us alone
  std::vector<std::string> dropped = {};  // paths that the target has no words for
};

// By the body's bytes, and what the caller allows each of the answers that it wants, or what is
// usual (path_cost.h).
struct TokenEstimate {
  std::uint64_t request = 0;
  std::uint64_t answer = 0;
};

// Of one call; what is parsed once serves all its tries.
class CallerBody {
 public:
  // `endpoint` outlives it.
  CallerBody(std::string text, const Endpoint& endpoint);
  CallerBody(const CallerBody&) = delete;
  CallerBody& operator=(const CallerBody&) = delete;

  bool is_object() const { return json_.has_value(); }
  const std::string& text() const { return text_; }
  const std::string& model() const { return model_; }  // "": it names none
  bool stream() const;                                 // of Gemini the path says so
  // OpenAI's callers get usage in a stream only where they ask for it.
  bool wants_usage() const;
  // As a limit has to reckon beforehand.
  TokenEstimate estimate() const;
  std::uint64_t estimated_request() const;

  // There is no other try, and nobody keeps the text. What it is estimated at is known all the
  // same.
  void forget();

  // Of a call for embeddings that another shape answers.
  const std::optional<EmbeddingRequest>& embedding() const { return embedding_; }

  std::expected<VendorBody, Problem> for_target(const Provider& provider, std::string_view model,
                                                bool drop_untranslatable);

 private:
  std::string read_model() const;
  std::string name_in_body(std::string_view model) const;
  std::expected<VendorBody, Problem> same_shape(const Provider& provider, std::string_view model);
  std::expected<VendorBody, Problem> translated(const Provider& provider, std::string_view model,
                                                bool drop_untranslatable);

  std::string text_;
  std::size_t size_;  // its own
  const Endpoint& endpoint_;
  std::optional<JsonText> json_;
  std::string model_;
  std::expected<VendorBody, Problem> translated_embedding(const Provider& provider,
                                                          std::string_view model);

  std::unique_ptr<std::expected<Request, Problem>> request_;  // null: not read yet
  std::optional<EmbeddingRequest> embedding_;
};

}  // namespace sluice::gateway::ai
