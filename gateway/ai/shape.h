// The forms in which a chat is asked for and answered. Each has a directory of its own.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/conversation.h"
#include "gateway/ai/deltas.h"
#include "gateway/ai/problem.h"

namespace sluice::gateway::ai {

enum class Shape : std::uint8_t { openai, anthropic, gemini };
inline constexpr std::array<std::string_view, 3> kShapeWords{"openai", "anthropic", "gemini"};
std::optional<Shape> parse_shape(std::string_view word);

// Services that speak OpenAI's shape, each with its own ideas of it.
enum class Dialect : std::uint8_t { openai, mistral, compatible };

struct WriteOptions {
  Dialect dialect = Dialect::openai;
  bool drop_untranslatable = false;  // else a field that the target cannot express is a problem
  std::int64_t default_max_tokens = 8192;  // Anthropic's API wants a number
};

struct WrittenRequest {
  json::object body;
  std::vector<std::string> dropped;  // paths
};

// One shape, both ways. Pure; any thread.
struct ShapeCodec {
  // Gemini says the model and whether to stream in the path: the caller fills them in.
  std::expected<Request, Problem> (*read_request)(const json::value& body);
  std::expected<WrittenRequest, Problem> (*write_request)(const Request& request,
                                                          const WriteOptions& options);
  // A whole answer with status 200.
  std::expected<Reply, Problem> (*read_reply)(const json::value& body);
  // `created`: seconds since the epoch.
  std::expected<json::object, Problem> (*write_reply)(const Reply& reply, std::int64_t created);

  Problem (*read_problem)(int status, const json::value& body);
  json::object (*write_problem)(const Problem& problem);

  std::unique_ptr<StreamReader> (*stream_reader)();
  std::unique_ptr<StreamWriter> (*stream_writer)(const StreamOptions& options);
};

const ShapeCodec& codec(Shape shape);
// The Responses API as callers ask for it: what vendors would say is null.
const ShapeCodec& responses_codec();

}  // namespace sluice::gateway::ai
