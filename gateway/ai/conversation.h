// What the vendors' chat APIs say, in one form: every shape is read into this and written from it,
// so that n shapes need n readers and n writers, not n × n translators. Values only; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <boost/json/value.hpp>

namespace sluice::gateway::ai {

namespace json = boost::json;

// Who made a piece of reasoning: another vendor cannot check its signature.
enum class Vendor : std::uint8_t { none, openai, anthropic, gemini, mistral };

struct Text {
  std::string text;
};
// Either bytes (base64) with their media type, or where they are.
struct Image {
  std::string media_type;
  std::string data;
  std::string url;
  std::string detail;  // OpenAI: auto | low | high
};
struct Document {
  std::string media_type;
  std::string data;
  std::string url;
  std::string name;
};
struct Audio {
  std::string format;  // wav | mp3
  std::string data;
};
struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // the JSON text of an object; "" means {}
  std::string signature;  // Gemini's thoughtSignature of this call
};
struct Part;
struct ToolResult {
  std::string call_id;
  std::string name;  // where the shape says it, or the call was seen
  std::vector<Part> content;
  bool failed = false;
};
// Kept with its signature, since vendors want it back unchanged in the next turn.
struct Thinking {
  std::string text;
  std::string signature;
  std::string redacted;  // Anthropic's redacted_thinking: the sealed data instead of text
  Vendor vendor = Vendor::none;
};
// A model's own words for "no" (OpenAI's refusal).
struct Refusal {
  std::string text;
};

// Anthropic's cache_control: a price, never a meaning.
struct CacheMark {
  std::string ttl;  // "5m", "1h" or "": the default
};

struct Part {
  std::variant<Text, Image, Document, Audio, ToolCall, ToolResult, Thinking, Refusal> content;
  std::optional<CacheMark> cache = {};
};

enum class Role : std::uint8_t { user, assistant };  // tool results are parts of a user's turn

struct Message {
  Role role = Role::user;
  std::vector<Part> parts;
};

struct Tool {
  std::string name;
  std::string description;
  json::value parameters;  // a JSON Schema; null: none
  std::optional<bool> strict = {};
  std::optional<CacheMark> cache = {};
};

struct ToolChoice {
  enum class Mode : std::uint8_t { automatic, none, required, one };
  Mode mode = Mode::automatic;
  std::string name;  // with `one`
};

struct OutputFormat {
  enum class Kind : std::uint8_t { text, json, schema };
  Kind kind = Kind::text;
  std::string name;
  std::string description;
  json::value schema;
  std::optional<bool> strict = {};
};

struct Reasoning {
  std::optional<bool> enabled;         // said so, either way
  std::optional<std::int64_t> budget;  // tokens
  std::string effort;                  // one of effort.h, or what the caller said
  std::optional<bool> shown;           // thoughts are wanted in the answer
};

struct Request {
  std::string model;
  std::vector<Part> system;
  std::vector<Message> messages;
  std::vector<Tool> tools;
  std::optional<ToolChoice> tool_choice;
  std::optional<bool> parallel_tool_calls;
  OutputFormat format;
  Reasoning reasoning;
  std::optional<std::int64_t> max_tokens;
  std::optional<double> temperature;  // 0 to 2
  std::optional<double> top_p;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<std::int64_t> top_k;
  std::optional<std::int64_t> seed;
  std::vector<std::string> stop;
  std::string end_user;
  bool stream = false;
  bool wants_usage = true;  // in a stream; only OpenAI's callers have to ask

  // Fields that only the shape they came in can express, by path ("logit_bias"): another target
  // refuses or drops them.
  std::vector<std::string> untranslatable;
};

enum class Stop : std::uint8_t {
  end,
  length,
  stop_sequence,
  tool_calls,
  content_filter,
  refusal,
  unknown,  // of a kind that has no twin elsewhere: an error, never a plain end
};

// Tokens, each counted once. Vendors differ in what includes what (usage.h has both views).
struct Usage {
  std::int64_t uncached = 0;     // of the input
  std::int64_t cache_read = 0;   // of the input
  std::int64_t cache_write = 0;  // of the input
  std::int64_t output = 0;       // with reasoning
  std::int64_t reasoning = 0;    // of the output

  std::int64_t input() const { return uncached + cache_read + cache_write; }
};

struct Reply {
  std::string id;
  std::string model;
  std::vector<Part> parts;
  Stop stop = Stop::end;
  std::string native_stop;    // the vendor's own word
  std::string stop_sequence;  // which one it was
  std::optional<Usage> usage;
};

}  // namespace sluice::gateway::ai
