// A chunked body in one piece and in several must come to the same; what is forwarded must decode
// to the same payload and be forwarded unchanged by the next hop.
#include <string>

#include "gateway/http1/chunked.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::gateway::http1;
using sluice::fuzz::require;

struct Outcome {
  std::string forwarded;
  std::size_t consumed = 0;
  ChunkedStatus status = ChunkedStatus::more;
  ParseError error = ParseError::none;
  std::uint64_t payload = 0;
  bool operator==(const Outcome&) const = default;
};

Outcome decode(std::string_view bytes, bool verbatim, std::size_t stride) {
  ChunkedDecoder decoder;
  Outcome outcome;
  for (std::size_t end = 0; end < bytes.size() && outcome.status == ChunkedStatus::more;) {
    end = std::min(end + stride, bytes.size());
    while (outcome.status == ChunkedStatus::more && outcome.consumed < end) {
      const std::string given(bytes.substr(outcome.consumed, end - outcome.consumed));
      const ChunkedStep step = verbatim ? decoder.next_verbatim(given) : decoder.next_data(given);
      require(step.consumed <= given.size(), "no more consumed than given");
      require(step.forward.empty() ||
                  (step.forward.data() >= given.data() &&
                   step.forward.data() + step.forward.size() <= given.data() + step.consumed),
              "what is forwarded was consumed");
      outcome.forwarded += step.forward;
      outcome.consumed += step.consumed;
      outcome.status = step.status;
      if (step.consumed == 0) break;
    }
  }
  outcome.error = decoder.error();
  outcome.payload = decoder.payload_bytes();
  return outcome;
}

}  // namespace

// The first byte is the size of the pieces.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t stride = data[0] % 32 + 1u;
  const Outcome verbatim = decode(bytes, true, bytes.size() + 1);
  const Outcome payload = decode(bytes, false, bytes.size() + 1);
  require(decode(bytes, true, stride) == verbatim, "pieces make no difference, verbatim");
  require(decode(bytes, false, stride) == payload, "pieces make no difference, payload");
  require(verbatim.status == payload.status && verbatim.error == payload.error &&
              verbatim.consumed == payload.consumed && verbatim.payload == payload.payload,
          "both ways come to the same end");
  require(payload.forwarded.size() == payload.payload, "the payload is what was handed out");
  if (verbatim.status != ChunkedStatus::done) return 0;
  const std::string& sent = verbatim.forwarded;
  const Outcome next = decode(sent, true, sent.size());
  require(
      next.status == ChunkedStatus::done && next.forwarded == sent && next.consumed == sent.size(),
      "the next hop changes nothing");
  require(decode(sent, false, sent.size()).forwarded == payload.forwarded, "the same payload");
  return 0;
}
