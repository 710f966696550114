#include "gateway/ai/proxy/path_cost.h"

#include <algorithm>
#include <array>

namespace sluice::gateway::ai {
namespace {

struct KnownPath {
  Shape shape;
  std::string_view path;
  PathCost cost;
};

// Of what is neither a chat nor an embedding. What is not here is unknown; docs/ai.md has the same
// table.
constexpr std::array kPaths{
    KnownPath{Shape::openai, "/completions", PathCost::said},
    KnownPath{Shape::openai, "/fim/completions", PathCost::said},
    KnownPath{Shape::openai, "/images/generations", PathCost::said},
    KnownPath{Shape::openai, "/responses/compact", PathCost::said},
    KnownPath{Shape::openai, "/responses/input_tokens", PathCost::free},
    KnownPath{Shape::openai, "/moderations", PathCost::free},
    KnownPath{Shape::openai, "/audio/speech", PathCost::unsaid},
    KnownPath{Shape::openai, "/ocr", PathCost::unsaid},
    KnownPath{Shape::openai, "/rerank", PathCost::unsaid},
    KnownPath{Shape::openai, "/videos", PathCost::unsaid},
    KnownPath{Shape::anthropic, "/messages/count_tokens", PathCost::free},
    KnownPath{Shape::gemini, "/cachedContents", PathCost::unsaid},
};

struct KnownVerb {
  std::string_view verb;
  PathCost cost;
};
constexpr std::array kVerbs{
    KnownVerb{"countTokens", PathCost::free},
    KnownVerb{"predict", PathCost::unsaid},
    KnownVerb{"predictLongRunning", PathCost::unsaid},
};

constexpr std::uint64_t kUsualText = 512;
// Of OpenAI's image models the largest picture in high quality.
constexpr std::uint64_t kUsualImage = 6240;

PathCost cost_of_own(const Endpoint& endpoint) {
  if (!endpoint.verb.empty()) {
    const auto known = std::ranges::find(kVerbs, endpoint.verb, &KnownVerb::verb);
    return known != kVerbs.end() ? known->cost : PathCost::unknown;
  }
  const auto known = std::ranges::find_if(kPaths, [&](const KnownPath& one) {
    return one.shape == endpoint.shape && one.path == endpoint.path;
  });
  return known != kPaths.end() ? known->cost : PathCost::unknown;
}

}  // namespace

PathCost path_cost(const Endpoint& endpoint) {
  switch (endpoint.operation) {
    case Operation::chat:
    case Operation::embeddings:
    case Operation::responses:
      return PathCost::said;
    case Operation::models:
      return PathCost::free;
    case Operation::other:
      break;
  }
  return cost_of_own(endpoint);
}

std::uint64_t usual_answer(const Endpoint& endpoint) {
  if (is_chat(endpoint.operation)) return kUsualText;
  if (endpoint.operation != Operation::other || path_cost(endpoint) != PathCost::said) return 0;
  return endpoint.path.starts_with("/images/") ? kUsualImage : kUsualText;
}

}  // namespace sluice::gateway::ai
