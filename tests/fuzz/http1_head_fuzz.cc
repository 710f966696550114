// A head in one piece and in two must come to the same; what is accepted must be forwarded in a
// form that is accepted again, says the same, and is not changed any more.
#include <array>
#include <string>
#include <vector>

#include "gateway/http1/forward.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/unit/http1/head_summary.h"

namespace {

using namespace sluice::gateway::http1;
using sluice::fuzz::require;

std::string joined(const OutgoingHead& out) {
  std::string text;
  for (const iovec& slice : out.slices()) {
    text.append(static_cast<const char*>(slice.iov_base), slice.iov_len);
  }
  require(text.size() == out.bytes(), "the slices add up");
  return text;
}

// "" if the head does not fit.
std::string forwarded(const RequestHead& head) {
  std::vector<char> path(head.path().size());
  std::vector<char> scratch(head.size() + 512);
  const auto normal = normalise_path(head.path(), path);
  if (!normal) return {};
  require(!head.path_is_normal() || normal->data() == head.path().data(), "normal paths stay");
  OutgoingHead out(scratch);
  RequestForwarding options{.path = *normal};
  if (head.authority().empty()) options.host = "192.0.2.1";
  require(forward_request(head, options, out).has_value(), "enough scratch always suffices");
  return joined(out);
}

void check_forwarding(const RequestHead& head) {
  if (head.method() == Method::connect) return;
  const std::string sent = forwarded(head);
  if (sent.empty()) return;
  RequestParser parser({.max_bytes = 65535, .max_request_line = 65535});
  RequestHead again;
  require(parser.parse(sent, again) == Progress::complete, "what is sent would be accepted");
  require(again.size() == sent.size(), "the head ends where it should");
  require(again.method_name() == head.method_name(), "same method");
  require(again.path_is_normal() || forwarded(again) == sent, "the path is normal now");
  require(again.has_query() == head.has_query() && again.query() == head.query(), "same query");
  require(head.authority().empty() || again.authority() == head.authority(), "same authority");
  require(again.body() == head.body(), "same body");
  require(again.content_length() == head.content_length(), "same length");
  require(again.upgrade() == head.upgrade(), "same upgrade");
  require(forwarded(again).size() <= sent.size(), "a second hop adds nothing");
}

void request(std::string_view bytes, std::size_t cut) {
  const HeadLimits limits{.max_bytes = 4096, .max_request_line = 1024, .max_fields = 32};
  const std::string once = parse_in_two<RequestParser, RequestHead>(bytes, bytes.size(), limits);
  require((parse_in_two<RequestParser, RequestHead>(bytes, cut, limits)) == once,
          "a request cut in two is the same request");
  const ExactCopy copy(bytes);
  RequestParser parser(limits);
  RequestHead head;
  if (parser.parse(copy.view(), head) == Progress::complete) check_forwarding(head);
}

void response(std::string_view bytes, std::size_t cut, std::uint8_t flags) {
  const ResponseContext context{.request_method = (flags & 1) != 0 ? Method::head : Method::get,
                                .upgrade_offered = (flags & 2) != 0};
  const HeadLimits limits{.max_bytes = 4096, .max_request_line = 1024, .max_fields = 32};
  const std::string once =
      parse_in_two<ResponseParser, ResponseHead>(bytes, bytes.size(), limits, context);
  require((parse_in_two<ResponseParser, ResponseHead>(bytes, cut, limits, context)) == once,
          "a response cut in two is the same response");

  const ExactCopy copy(bytes);
  ResponseParser parser(limits);
  ResponseHead head;
  if (parser.parse(copy.view(), context, head) != Progress::complete) return;
  std::vector<char> scratch(head.size() + 512);
  OutgoingHead out(scratch);
  const ResponseForwarding options{
      .client_minor_version = static_cast<std::uint8_t>((flags & 4) != 0 ? 0 : 1),
      .client_keep_alive = (flags & 8) == 0};
  const auto plan = forward_response(head, options, out);
  require(plan.has_value(), "enough scratch always suffices");
  const std::string sent = joined(out);
  ResponseParser client({.max_bytes = 65535, .max_request_line = 65535});
  ResponseHead again;
  require(client.parse(sent, context, again) == Progress::complete, "the client can read it");
  require(again.size() == sent.size(), "the head ends where it should");
  require(again.status() == head.status(), "same status");
  const bool reframed = plan->body == BodyRelay::dechunk || plan->body == BodyRelay::enchunk;
  require(reframed || again.body() == head.body(), "same body");
}

}  // namespace

// The first two bytes say where to cut and how to read the rest.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::size_t cut = bytes.empty() ? 0 : data[0] * bytes.size() / 256;
  if ((data[1] & 0x80) == 0) {
    request(bytes, cut);
  } else {
    response(bytes, cut, data[1]);
  }
  return 0;
}
