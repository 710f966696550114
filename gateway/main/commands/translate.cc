// sluice translate: what a chat request or answer becomes in another vendor's shape.
#include <array>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include <boost/json.hpp>

#include "gateway/ai/shape.h"
#include "gateway/main/command.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using namespace gateway::ai;

constexpr std::string_view kShapes = "openai anthropic gemini";
constexpr std::array kOptions{
    OptionSpec{"from", "SHAPE", "openai, anthropic or gemini", 0, kShapes},
    OptionSpec{"to", "SHAPE", "the same words", 0, kShapes},
    OptionSpec{"what", "WHAT", "request (default), reply, or stream: server-sent events", 0,
               "request reply stream"},
    OptionSpec{"output", "FORMAT", "json, and nothing else", 0, "json"},
    OptionSpec{"drop", "", "leave out what the target cannot express, and say so"},
};

int failed(const Problem& problem) {
  std::cerr << "sluice: " << describe(problem) << '\n';
  return kExitFailed;
}

int translate_request(const ShapeCodec& from, const ShapeCodec& to, const json::value& body,
                      bool drop) {
  const auto request = from.read_request(body);
  if (!request) return failed(request.error());
  WriteOptions options;
  options.drop_untranslatable = drop;
  const auto written = to.write_request(*request, options);
  if (!written) return failed(written.error());
  for (const std::string& path : written->dropped)
    std::cerr << "dropped: " << path << '\n';
  std::cout << json::serialize(written->body) << '\n';
  return kExitOk;
}

int translate_reply(const ShapeCodec& from, const ShapeCodec& to, const json::value& body) {
  const auto reply = from.read_reply(body);
  if (!reply) return failed(reply.error());
  const auto written = to.write_reply(*reply, 0);
  if (!written) return failed(written.error());
  std::cout << json::serialize(*written) << '\n';
  return kExitOk;
}

int translate_stream(const ShapeCodec& from, const ShapeCodec& to, std::string_view bytes) {
  SseParser parser;
  Deltas deltas;
  const auto reader = from.stream_reader();
  if (!parser.feed(bytes, [&](const SseEvent& event) { reader->read(event, deltas); }))
    return failed(Problem::upstream("an event is too large"));
  reader->end(deltas);
  const auto writer = to.stream_writer({});
  std::string out;
  for (const Delta& delta : deltas)
    writer->write(delta, out);
  std::cout << out;
  if (writer->failure()) return failed(*writer->failure());
  return deltas.empty() || std::holds_alternative<Failure>(deltas.back()) ? kExitFailed : kExitOk;
}

std::string read_all(const Arguments& arguments) {
  if (arguments.words().empty())
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  std::ifstream file(arguments.words()[0], std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + arguments.words()[0]);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

int translate(const Arguments& arguments) {
  const auto from = parse_shape(arguments.get("from"));
  const auto to = parse_shape(arguments.get("to"));
  const std::string what = arguments.get("what", "request");
  if (!from || !to || (what != "request" && what != "reply" && what != "stream")) {
    std::cerr << "sluice: translate needs --from and --to openai, anthropic or gemini, and --what "
                 "request, reply or stream\n";
    return kExitUsage;
  }
  const std::string bytes = read_all(arguments);
  if (what == "stream") return translate_stream(codec(*from), codec(*to), bytes);
  boost::system::error_code error;
  const json::value body = json::parse(bytes, error);
  if (error) return failed(Problem::invalid("", "not JSON: " + error.message()));
  return what == "reply" ? translate_reply(codec(*from), codec(*to), body)
                         : translate_request(codec(*from), codec(*to), body, arguments.has("drop"));
}

}  // namespace

const Command kTranslateCommand{
    .name = "translate",
    .words = "[FILE]",
    .summary = "Show what an LLM request, reply or stream is in another vendor's shape.",
    .details =
        "Reads FILE, or standard input. Needs no running sluice; nothing leaves this process.",
    .options = kOptions,
    .max_words = 1,
    .run = translate,
};

}  // namespace sluice::control
