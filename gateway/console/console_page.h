// The console's page: page.html, which the build turns into a string.
#pragma once

#include <string>
#include <string_view>

namespace sluice::gateway {

extern const std::string_view kConsolePage;  // "@NONCE@" where its styles and scripts are allowed

// With a nonce of its own, and what a browser must know of it (Content-Security-Policy).
struct ConsolePage {
  std::string body;
  std::string content_security_policy;
};
ConsolePage console_page(std::string_view nonce);

}  // namespace sluice::gateway
