// The request as the vendor gets it: its path, its key, and what of the caller's head goes with it.
#pragma once

#include <string>
#include <string_view>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::ai {

struct VendorRequest {
  const Provider* provider = nullptr;
  const Endpoint* endpoint = nullptr;  // as the caller asked
  std::string_view model = {};         // as the provider calls it
  bool stream = false;
  std::string_view query = {};  // the caller's
  std::string_view key = {};    // "": none is sent
  bool callers_key = false;     // it is the caller's own
  std::size_t body_size = 0;
};

// The head, as `text` in HTTP/1.1's form, which `head` points into. `caller`: whose fields go on
// where both speak one shape; credentials, cookies and what proxies add never do, and whose account
// it is on goes with the caller's own key alone. False: it has become too large, or cannot be sent.
bool write_vendor_head(const VendorRequest& request, const http1::RequestHead& caller,
                       std::string& text, http1::RequestHead& head);

// What of the vendor's head the caller gets, as field lines: nothing of the gateway's own account
// with the vendor (rate limits, organisation, cookies). `all`: of calls that are passed on as they
// are.
void write_answer_fields(const http1::ResponseHead& answer, bool all, std::string& out);

// What of the caller's head has a say in an answer's content, as field lines: versions and betas of
// the vendors' APIs.
std::string api_fields(const http1::RequestHead& caller);

// The query without the key that Gemini's callers put there.
std::string without_key(std::string_view query);

}  // namespace sluice::gateway::ai
