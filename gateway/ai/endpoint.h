// What a request's path asks for, in any of the vendors' APIs, below any prefix.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

enum class Operation : std::uint8_t {
  chat,
  embeddings,
  responses,  // OpenAI's other way to ask for a chat
  models,  // the list of them, or one
  other,   // of one vendor alone: passed on as it is
};
// As OpenTelemetry's gen_ai.operation.name has it.
std::string_view to_string(Operation operation);

constexpr bool is_chat(Operation operation) {
  return operation == Operation::chat || operation == Operation::responses;
}

struct Endpoint {
  Operation operation = Operation::other;
  Shape shape = Shape::openai;
  bool stream = false;            // Gemini says so in the path
  std::string_view model = {};    // likewise; of Operation::models the one that is asked for
  std::string_view verb = {};     // Gemini: "generateContent"
  std::string_view path = {};     // from the API's version on, without it: "/images/generations"
  std::string_view version = {};  // "v1", "v1beta"; "": none was said
  bool upload = false;            // Gemini: of /upload/v1beta, where its files go
};

// How who asks there wants to be answered.
const ShapeCodec& codec(const Endpoint& endpoint);

// Header fields that tell vendors apart where paths do not.
struct CallerHints {
  bool anthropic = false;  // anthropic-version is there
  bool gemini = false;     // x-goog-api-key or ?key= is there
};

// `path`: normalised, without the query. Nullopt: no path of an API.
std::optional<Endpoint> parse_endpoint(std::string_view path, const CallerHints& hints);

// Whether its streams begin and end as a chat's do. Of what one vendor alone has, most do not.
bool streams_chat(const Endpoint& endpoint);

// Whether it is a call of Gemini's whose path says what is done, and to whom: also outside of
// models/ ("/tunedModels/NAME:generateContent"), where no model is known here.
bool has_verb(const Endpoint& endpoint);

}  // namespace sluice::gateway::ai
