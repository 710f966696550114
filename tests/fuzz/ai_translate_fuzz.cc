// What callers and vendors send, in any shape, to any other one: read within its bounds, and what
// is written can be read by whoever it was written for.
#include <algorithm>
#include <string>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/embeddings.h"
#include "gateway/ai/json_text.h"
#include "gateway/ai/reply_meter.h"
#include "gateway/ai/shape.h"
#include "gateway/ai/stream_filter.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::gateway::ai;
using sluice::fuzz::require;

constexpr std::int64_t kCreated = 1'700'000'000;

Shape shape_of(unsigned number) {
  return static_cast<Shape>(number % 3);
}

const json::value* at(const json::value& value, std::string_view key) {
  return value.is_object() ? value.get_object().if_contains(key) : nullptr;
}

template <typename Visit>
void each_under(const json::value& schema, std::string_view key, Visit visit) {
  const json::value* under = at(schema, key);
  if (under == nullptr) return;
  if (const json::array* list = under->if_array()) {
    for (const json::value& one : *list)
      visit(one);
  } else if (const json::object* named = under->if_object()) {
    for (const auto& member : *named)
      visit(member.value());
  }
}

// In small letters.
std::string type_of(const json::value& schema) {
  const json::value* said = at(schema, "type");
  std::string type = said != nullptr && said->is_string() ? std::string(said->get_string()) : "";
  for (char& c : type)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  return type;
}

// What Gemini's API says 400 to.
void taken_by_gemini(const json::value& schema) {  // NOLINT(misc-no-recursion)
  const std::string type = type_of(schema);
  if (at(schema, "enum") != nullptr) {
    require(type == "string", "an enum is of strings");
    each_under(schema, "enum", [](const json::value& word) {
      require(word.is_string() && !word.get_string().empty(),
              "an enum is of strings that say something");
    });
  }
  if (type == "array") require(at(schema, "items") != nullptr, "a list has items");
  if (type == "string" && at(schema, "format") != nullptr)
    require(*at(schema, "format") == "date-time" || *at(schema, "format") == "enum", "a format");
  each_under(schema, "required", [&](const json::value& name) {
    const json::value* properties = at(schema, "properties");
    require(
        properties != nullptr && name.is_string() && at(*properties, name.get_string()) != nullptr,
        "what is required is there");
  });
  each_under(schema, "properties", taken_by_gemini);
  each_under(schema, "anyOf", taken_by_gemini);
  if (const json::value* items = at(schema, "items")) taken_by_gemini(*items);
}

void closed_for_anthropic(const json::value& schema) {  // NOLINT(misc-no-recursion)
  if (type_of(schema) == "object" && at(schema, "$ref") == nullptr) {
    const json::value* more = at(schema, "additionalProperties");
    require(more != nullptr && *more == false, "objects are closed");
  }
  if (at(schema, "properties") != nullptr && at(schema, "properties")->is_object())
    each_under(schema, "properties", closed_for_anthropic);
  if (at(schema, "anyOf") != nullptr && at(schema, "anyOf")->is_array())
    each_under(schema, "anyOf", closed_for_anthropic);
  if (const json::value* items = at(schema, "items")) closed_for_anthropic(*items);
}

void schemas(Shape to, const json::value& body) {
  if (to == Shape::gemini) {
    each_under(body, "tools", [](const json::value& tool) {
      each_under(tool, "functionDeclarations", [](const json::value& function) {
        if (const json::value* schema = at(function, "parameters")) taken_by_gemini(*schema);
      });
    });
    const json::value* config = at(body, "generationConfig");
    const json::value* schema = config != nullptr ? at(*config, "responseSchema") : nullptr;
    if (schema != nullptr) taken_by_gemini(*schema);
  }
  if (to != Shape::anthropic) return;
  const json::value* output = at(body, "output_config");
  const json::value* format = output != nullptr ? at(*output, "format") : nullptr;
  const json::value* schema = format != nullptr ? at(*format, "schema") : nullptr;
  if (schema != nullptr) closed_for_anthropic(*schema);
}

void request(Shape from, Shape to, const json::value& body, unsigned how) {
  const auto read = codec(from).read_request(body);
  if (!read) {
    require(!read.error().message.empty(), "a problem says what it is");
    return;
  }
  WriteOptions options;
  options.dialect = static_cast<Dialect>(how % 3);
  options.drop_untranslatable = (how & 4U) != 0;
  const auto written = codec(to).write_request(*read, options);
  if (!written) {
    require(!written.error().message.empty(), "a problem says what it is");
    return;
  }
  for (const std::string& path : written->dropped)
    require(!path.empty(), "what is dropped is named");
  schemas(to, written->body);
  const auto again = codec(to).read_request(written->body);
  if (!again)
    std::cerr << describe(again.error()) << "\n" << json::serialize(written->body) << "\n";
  require(again.has_value(), "what is written can be read");
}

void reply(Shape from, Shape to, const json::value& body) {
  const auto read = codec(from).read_reply(body);
  if (!read) return;
  const auto written = codec(to).write_reply(*read, kCreated);
  if (!written) return;
  const auto again = codec(to).read_reply(*written);
  if (!again) std::cerr << describe(again.error()) << "\n" << json::serialize(*written) << "\n";
  require(again.has_value(), "what is written can be read");
}

// As the parser has it, whatever the pieces. `body`: null where it is no JSON.
void metered(Shape shape, std::string_view text, std::size_t step, const json::value* body) {
  Metered expected;
  if (body != nullptr) meter_reply(shape, *body, expected);
  // What is scanned in one piece is not held to be JSON throughout.
  const bool scanned = step >= text.size() && body != nullptr;
  Metered found;
  ReplyMeter meter(shape, scanned ? text.size() : 0);
  for (std::size_t at = 0; at < text.size(); at += step)
    meter.feed(text.substr(at, step));
  meter.end(found);
  require(found.model == expected.model, "the model that answered");
  require(found.usage.has_value() == expected.usage.has_value(), "usage");
  if (!found.usage) return;
  const Usage& one = *found.usage;
  const Usage& other = *expected.usage;
  require(one.uncached == other.uncached && one.cache_read == other.cache_read &&
              one.cache_write == other.cache_write && one.output == other.output &&
              one.reasoning == other.reasoning,
          "token counts");
}

void members(std::string_view text, const json::value& body) {
  const auto scanned = JsonText::scan(text);
  const json::object* object = body.if_object();
  if (!scanned) return;
  require(object != nullptr, "an object");
  for (const auto& member : *object) {
    const auto value = scanned->find(member.key());
    // As text: a number of no value (0e0615 gives NaN) is not equal to itself.
    require(value && json::serialize(json::parse(*value)) == json::serialize(member.value()),
            "a member as it was written");
  }
}

struct Streamed {
  std::string out;
  bool failed = false;
  bool operator==(const Streamed&) const = default;
};

Streamed stream(Shape from, Shape to, std::string_view text, std::size_t step, bool as_array) {
  TranslationOptions options;
  options.writer.created = kCreated;
  options.as_array = as_array && to == Shape::gemini;
  const auto filter = translating_filter(from, to, options);
  Streamed out;
  for (std::size_t at = 0; at < text.size(); at += step)
    filter->feed(text.substr(at, step), out.out);
  filter->end(out.out);
  out.failed = filter->failure().has_value();
  return out;
}

void whole_stream(Shape to, const Streamed& translated) {
  if (translated.failed) return;
  std::string out;
  const auto reader = passing_filter(to, false);
  reader->feed(translated.out, out);
  reader->end(out);
  require(!reader->failure(), "a stream that is whole is whole in the other shape");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const Shape from = shape_of(data[0]);
  const Shape to = shape_of(data[0] / 3U);
  const std::string_view text(reinterpret_cast<const char*>(data) + 3, size - 3);
  if (data[1] % 3 == 2) {
    const bool as_array = (data[2] & 64U) != 0;
    const Streamed pieces = stream(from, to, text, 1 + data[2] % 61U, as_array);
    require(pieces == stream(from, to, text, std::max<std::size_t>(text.size(), 1), as_array),
            "pieces do not matter");
    if (!as_array) whole_stream(to, pieces);
    return 0;
  }
  (void)JsonText::scan(text);
  boost::system::error_code error;
  const json::value body = json::parse(text, error);
  metered(from, text, 1 + data[2] % 61U, error ? nullptr : &body);
  metered(from, text, std::max<std::size_t>(text.size(), 1), error ? nullptr : &body);
  if (error) return 0;
  members(text, body);
  if (data[1] % 3 == 0) {
    request(from, to, body, data[2]);
  } else {
    reply(from, to, body);
  }
  (void)read_embedding_request(from, body);
  (void)codec(from).read_problem(500, body);
  return 0;
}
