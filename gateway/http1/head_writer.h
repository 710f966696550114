// Heads that the gateway puts together itself. The parsers (head.h) would look again at each byte
// of what was just written; what comes of it here is what they make of the same bytes, within the
// same limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http1/head.h"

namespace sluice::gateway::http1 {

// A request in HTTP/1.1's origin form, which offers no upgrade and leaves the connection open. Its
// fields are told to the table while they are written.
//
//   RequestWriter writer(text, head);
//   writer.method(caller);  text.append("/v1/chat?a=b");  writer.host("api.example:8080");
//   writer.field(…) …       if (!writer.end(body.size())) …
class RequestWriter {
 public:
  // Both are written anew, and stay where they are: `head` points into `text`.
  RequestWriter(std::string& text, RequestHead& head);

  void method(const RequestHead& as);
  // What was appended to the text since is the target.
  void host(std::string_view authority);
  // None of host, content-length, transfer-encoding, expect, or of the connection's (kHopByHop).
  // Name and value are of a head that was parsed, or such as it could have; `before` comes before
  // the value.
  void field(std::string_view name, std::string_view value, KnownField id,
             std::string_view before = {});
  // False: it is none that can be sent.
  bool end(std::uint64_t body_size);

 private:
  bool read_target();

  std::string& text_;
  RequestHead& head_;
  std::size_t target_at_ = 0;
  bool good_ = true;
};

// The answer to a request that is not HEAD: "HTTP/1.1 200 OK", and fields as `name: value`, each of
// a head that was parsed, or such as it could have. At most one says how the body ends, and none is
// of the connection's. False: it is none that can be sent.
bool read_own_response(std::string_view text, ResponseHead& head);

}  // namespace sluice::gateway::http1
