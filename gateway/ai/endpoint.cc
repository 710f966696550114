#include "gateway/ai/endpoint.h"

#include <algorithm>
#include <array>

namespace sluice::gateway::ai {
namespace {

constexpr std::array<std::string_view, 3> kVersions{"v1", "v1beta", "v1alpha"};

bool is_version(std::string_view segment) {
  for (const std::string_view version : kVersions)
    if (version == segment) return true;
  return false;
}

// Where the last segment that is a version begins: what stands before it is the route's, but for
// Gemini's "upload". npos: none.
std::size_t find_version(std::string_view path) {
  std::size_t found = std::string_view::npos;
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t begin = at + 1;
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (is_version(path.substr(begin, end - begin))) found = begin;
    at = end;
  }
  return found;
}

// A vendor may take "%3A" for a colon, so it is one here.
struct Colon {
  std::size_t at = std::string_view::npos;
  std::size_t size = 0;
  explicit operator bool() const { return size > 0; }
};

Colon last_colon(std::string_view path) {
  Colon last;
  for (const std::string_view written : {":", "%3A", "%3a"}) {
    const std::size_t at = path.rfind(written);
    if (at != std::string_view::npos && (!last || at > last.at)) last = {at, written.size()};
  }
  return last;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// models/MODEL:VERB
void gemini_call(std::string_view rest, Endpoint& out) {
  const Colon colon = last_colon(rest);
  out.shape = Shape::gemini;
  out.model = rest.substr(0, colon.at);
  out.verb = rest.substr(colon.at + colon.size);
  if (out.verb == "generateContent" || out.verb == "streamGenerateContent") {
    out.operation = Operation::chat;
    out.stream = out.verb == "streamGenerateContent";
  } else if (out.verb == "embedContent" || out.verb == "batchEmbedContents") {
    out.operation = Operation::embeddings;
  }
}

Shape hinted(const Endpoint& endpoint, const CallerHints& hints) {
  if (hints.anthropic) return Shape::anthropic;
  if (hints.gemini || endpoint.version == "v1beta" || endpoint.version == "v1alpha")
    return Shape::gemini;
  return Shape::openai;
}

void classify(Endpoint& out, const CallerHints& hints) {
  std::string_view rest = out.path;
  out.shape = hinted(out, hints);
  if (rest == "/responses") {
    out.operation = Operation::responses;
    out.shape = Shape::openai;
  } else if (rest == "/chat/completions") {
    out.operation = Operation::chat;
    out.shape = Shape::openai;
  } else if (rest == "/embeddings") {
    out.operation = Operation::embeddings;
    out.shape = Shape::openai;
  } else if (rest == "/messages") {
    out.operation = Operation::chat;
    out.shape = Shape::anthropic;
  } else if (rest == "/models") {
    out.operation = Operation::models;
  } else if (rest.starts_with("/messages/")) {
    out.shape = Shape::anthropic;
  } else if (take_prefix(rest, "/models/")) {
    if (last_colon(rest) && out.shape == Shape::gemini) return gemini_call(rest, out);
    out.operation = Operation::models;
    out.model = rest;
  }
}

}  // namespace

const ShapeCodec& codec(const Endpoint& endpoint) {
  return endpoint.operation == Operation::responses ? responses_codec() : codec(endpoint.shape);
}

std::string_view to_string(Operation operation) {
  switch (operation) {
    case Operation::chat:
    case Operation::responses:
      return "chat";
    case Operation::embeddings:
      return "embeddings";
    case Operation::models:
      return "models";
    case Operation::other:
      break;
  }
  return "other";
}

std::optional<Endpoint> parse_endpoint(std::string_view path, const CallerHints& hints) {
  Endpoint out;
  const std::size_t version = find_version(path);
  if (version != std::string_view::npos) {
    out.version = path.substr(version, path.find('/', version) - version);
    out.path = path.substr(version + out.version.size());
    if (out.path.empty()) return std::nullopt;
    // Gemini's own: of a model, with a verb, also below /v1.
    CallerHints said = hints;
    if (out.path.starts_with("/models/") &&
        (out.path.ends_with("Content") || out.path.ends_with("Contents") ||
         out.path.ends_with("Tokens")) &&
        last_colon(out.path)) {
      said.gemini = true;
    }
    classify(out, said);
    out.upload = out.shape == Shape::gemini && path.substr(0, version).ends_with("/upload/");
    return out;
  }
  // A base URL without a version.
  for (const std::string_view known : {"/chat/completions", "/responses", "/embeddings", "/messages"}) {
    if (!path.ends_with(known)) continue;
    out.path = known;
    classify(out, hints);
    return out;
  }
  return std::nullopt;
}

bool streams_chat(const Endpoint& endpoint) {
  const bool own =
      endpoint.operation == Operation::other || endpoint.operation == Operation::models;
  return !own || endpoint.path.ends_with("/completions") ||
         endpoint.path.ends_with("streamGenerateContent");
}

bool has_verb(const Endpoint& endpoint) {
  return endpoint.shape == Shape::gemini && last_colon(endpoint.path);
}

}  // namespace sluice::gateway::ai
