// Whatever fields HTTP/2 brings, the text made of them is one HTTP/1.1 head: no more lines than
// fields, nothing behind its end, and the parser reads the path that was given or refuses.
#include <algorithm>
#include <string>

#include "gateway/http1/head.h"
#include "gateway/http2/head_text.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::gateway;
using sluice::fuzz::require;

// Fields end with 0xff, names with 0xfe.
template <typename Take>
std::size_t each_field(std::string_view in, Take take) {
  std::size_t count = 0;
  while (!in.empty()) {
    const std::string_view field = in.substr(0, in.find('\xff'));
    in.remove_prefix(std::min(in.size(), field.size() + 1));
    const std::size_t middle = std::min(field.find('\xfe'), field.size());
    take(field.substr(0, middle), field.substr(std::min(middle + 1, field.size())));
    ++count;
  }
  return count;
}

void request(std::string_view in, bool has_body) {
  http2::HeadText text;
  text.reset();
  std::string path;
  const std::size_t fields = each_field(in, [&](std::string_view name, std::string_view value) {
    text.add(name, value);
    if (name == ":path") path = value;
  });
  if (text.finish_request(has_body) != http2::HeadError::none) return;
  const std::string_view head = text.text();
  require(head.find("\r\n\r\n") == head.size() - 4, "one empty line, at the end");
  const auto lines = static_cast<std::size_t>(std::ranges::count(head, '\n'));
  require(lines <= fields + 5, "no more lines than fields");
  require(std::ranges::count(head, '\r') == std::ranges::count(head, '\n'), "no bare CR or LF");
  http1::RequestParser parser;
  http1::RequestHead parsed;
  const auto progress = parser.parse(head, parsed);
  require(progress != http1::Progress::need_more, "a whole head");
  if (progress == http1::Progress::failed) return;
  require(parsed.size() == head.size(), "nothing behind it");
  if (parsed.method() == http1::Method::connect || path == "*") return;
  std::string again(parsed.path());
  if (parsed.has_query()) again.append("?").append(parsed.query());
  require(again == path, "the same path");
}

void response(std::string_view in, bool has_body) {
  http2::HeadText text;
  text.reset();
  each_field(in, [&](std::string_view name, std::string_view value) { text.add(name, value); });
  if (text.finish_response(has_body, false) != http2::HeadError::none) return;
  const std::string_view head = text.text();
  require(head.find("\r\n\r\n") == head.size() - 4, "one empty line, at the end");
  http1::ResponseParser parser;
  http1::ResponseHead parsed;
  const http1::ResponseContext context;
  require(parser.parse(head, context, parsed) != http1::Progress::need_more, "a whole head");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view in(reinterpret_cast<const char*>(data), size);
  if (in.size() > 16 * 1024) return 0;
  request(in, false);
  request(in, true);
  response(in, true);
  return 0;
}
