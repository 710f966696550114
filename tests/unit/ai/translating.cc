#include "tests/unit/ai/translating.h"

namespace sluice::gateway::ai {

json::value parsed(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  EXPECT_FALSE(error) << error.message() << " in " << text;
  return value;
}

std::string at(const json::value& value, std::string_view pointer) {
  boost::system::error_code error;
  const json::value* found = value.find_pointer(pointer, error);
  if (found == nullptr) return "none";
  return found->is_string() ? std::string(found->get_string()) : json::serialize(*found);
}

std::expected<WrittenRequest, Problem> translate_request(Shape from, Shape to,
                                                         std::string_view body,
                                                         const WriteOptions& options) {
  const auto request = codec(from).read_request(parsed(body));
  if (!request) return std::unexpected(request.error());
  return codec(to).write_request(*request, options);
}

json::object request(Shape from, Shape to, std::string_view body, const WriteOptions& options) {
  auto written = translate_request(from, to, body, options);
  if (written) return written->body;
  ADD_FAILURE() << describe(written.error());
  return {};
}

json::object reply(Shape from, Shape to, std::string_view body) {
  const auto read = codec(from).read_reply(parsed(body));
  if (!read) {
    ADD_FAILURE() << describe(read.error());
    return {};
  }
  auto written = codec(to).write_reply(*read, 1700000000);
  if (written) return *written;
  ADD_FAILURE() << describe(written.error());
  return {};
}

std::string stream(Shape from, Shape to, std::string_view bytes, std::size_t cut,
                   const StreamOptions& options) {
  SseParser parser;
  const auto reader = codec(from).stream_reader();
  const auto writer = codec(to).stream_writer(options);
  std::string out;
  Deltas deltas;
  const auto pass_on = [&] {
    for (const Delta& delta : deltas)
      writer->write(delta, out);
    deltas.clear();
  };
  for (std::size_t at = 0; at < bytes.size(); at += cut) {
    EXPECT_TRUE(parser.feed(bytes.substr(at, cut),
                            [&](const SseEvent& event) { reader->read(event, deltas); }));
    pass_on();
  }
  reader->end(deltas);
  pass_on();
  return out;
}

std::vector<json::value> events(std::string_view stream) {
  SseParser parser;
  std::vector<json::value> found;
  parser.feed(stream, [&](const SseEvent& event) {
    found.push_back(event.data == "[DONE]" ? json::value("[DONE]") : parsed(event.data));
  });
  return found;
}

}  // namespace sluice::gateway::ai
