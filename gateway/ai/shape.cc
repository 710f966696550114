#include "gateway/ai/shape.h"

#include "gateway/ai/anthropic/anthropic.h"
#include "gateway/ai/gemini/gemini.h"
#include "gateway/ai/openai/openai.h"
#include "gateway/ai/responses/responses.h"

namespace sluice::gateway::ai {
namespace {

constexpr ShapeCodec kOpenAi{
    .read_request = openai::read_request,
    .write_request = openai::write_request,
    .read_reply = openai::read_reply,
    .write_reply = openai::write_reply,
    .read_problem = openai::read_problem,
    .write_problem = openai::write_problem,
    .stream_reader = openai::stream_reader,
    .stream_writer = openai::stream_writer,
};
constexpr ShapeCodec kAnthropic{
    .read_request = anthropic::read_request,
    .write_request = anthropic::write_request,
    .read_reply = anthropic::read_reply,
    .write_reply = anthropic::write_reply,
    .read_problem = anthropic::read_problem,
    .write_problem = anthropic::write_problem,
    .stream_reader = anthropic::stream_reader,
    .stream_writer = anthropic::stream_writer,
};
constexpr ShapeCodec kGemini{
    .read_request = gemini::read_request,
    .write_request = gemini::write_request,
    .read_reply = gemini::read_reply,
    .write_reply = gemini::write_reply,
    .read_problem = gemini::read_problem,
    .write_problem = gemini::write_problem,
    .stream_reader = gemini::stream_reader,
    .stream_writer = gemini::stream_writer,
};

// No vendor but OpenAI speaks it, and its answers pass as they are.
constexpr ShapeCodec kResponses{
    .read_request = responses::read_request,
    .write_request = nullptr,
    .read_reply = nullptr,
    .write_reply = responses::write_reply,
    .read_problem = nullptr,
    .write_problem = openai::write_problem,
    .stream_reader = nullptr,
    .stream_writer = responses::stream_writer,
};

}  // namespace

const ShapeCodec& responses_codec() {
  return kResponses;
}

std::optional<Shape> parse_shape(std::string_view word) {
  for (std::size_t i = 0; i < kShapeWords.size(); ++i)
    if (kShapeWords[i] == word) return static_cast<Shape>(i);
  return std::nullopt;
}

const ShapeCodec& codec(Shape shape) {
  switch (shape) {
    case Shape::anthropic:
      return kAnthropic;
    case Shape::gemini:
      return kGemini;
    case Shape::openai:
      break;
  }
  return kOpenAi;
}

}  // namespace sluice::gateway::ai
