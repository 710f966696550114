// A streamed answer, piece by piece, in one form: what every stream is read into and written from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/ai/conversation.h"
#include "gateway/ai/problem.h"
#include "gateway/ai/sse.h"

namespace sluice::gateway::ai {

enum class PartKind : std::uint8_t { text, thinking, tool_call, refusal };

struct Begin {
  std::string id;
  std::string model;
};
// Parts are numbered from 0 in the order in which they begin. Several may be open at a time.
struct PartBegin {
  std::size_t part = 0;
  PartKind kind = PartKind::text;
  std::string id = {};    // of a tool call
  std::string name = {};  // of a tool call
};
struct PartDelta {
  std::size_t part = 0;
  std::string text;  // or a piece of the JSON text of a tool's arguments
};
// What seals a thought, or a call of Gemini's.
struct PartSignature {
  std::size_t part = 0;
  std::string signature;
  std::string redacted = {};  // Anthropic's redacted_thinking
};
struct PartEnd {
  std::size_t part = 0;
};
struct Finish {
  Stop stop = Stop::end;
  std::string native;
  std::string stop_sequence = {};
};
// The latest counts, each replacing the ones before. Nullopt: they are there, and cannot be read.
struct UsageSoFar {
  std::optional<Usage> usage;
};
// The stream is broken: it must not look whole.
struct Failure {
  Problem problem;
};
// The vendor has said that this was all.
struct Done {};

using Delta = std::variant<Begin, PartBegin, PartDelta, PartSignature, PartEnd, Finish, UsageSoFar,
                           Failure, Done>;
using Deltas = std::vector<Delta>;

// Turns a vendor's events into deltas. One per stream.
class StreamReader {
 public:
  virtual ~StreamReader() = default;
  virtual void read(const SseEvent& event, Deltas& out) = 0;
  // The connection has ended. Failure unless the stream was whole by then.
  virtual void end(Deltas& out) = 0;

 protected:
  // Nothing more is said of a stream that is over.
  void fail(Problem problem, Deltas& out) {
    over_ = true;
    out.push_back(Failure{std::move(problem)});
  }
  void fail(std::string message, Deltas& out) { fail(Problem::upstream(std::move(message)), out); }

  bool over_ = false;
};

struct StreamOptions {
  bool usage = true;         // OpenAI: the caller asked for the chunk with it
  std::int64_t created = 0;  // OpenAI: seconds since the epoch
};

// Turns deltas into the caller's events. One per stream.
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;
  // A Failure becomes the caller's last event: a stream that was cut is never shown as complete.
  virtual void write(const Delta& delta, std::string& out) = 0;
  // Why the stream cannot go on in this shape; nothing is written from then on.
  const std::optional<Problem>& failure() const { return failure_; }

 protected:
  void fail(Problem problem) {
    failure_ = std::move(problem);
    over_ = true;
  }

  bool over_ = false;

 private:
  std::optional<Problem> failure_;
};

}  // namespace sluice::gateway::ai
