#include "gateway/console/console_page.h"

namespace sluice::gateway {

ConsolePage console_page(std::string_view nonce) {
  constexpr std::string_view kPlace = "@NONCE@";
  ConsolePage page;
  page.body.reserve(kConsolePage.size() + 64);
  std::string_view rest = kConsolePage;
  for (auto at = rest.find(kPlace); at != std::string_view::npos; at = rest.find(kPlace)) {
    page.body.append(rest.substr(0, at)).append(nonce);
    rest.remove_prefix(at + kPlace.size());
  }
  page.body.append(rest);
  // style-src-attr: the picture's width.
  page.content_security_policy
      .append(
          "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
          "frame-ancestors 'none'; style-src-attr 'unsafe-inline'; style-src 'nonce-")
      .append(nonce)
      .append("'; script-src 'nonce-")
      .append(nonce)
      .append("'");
  return page;
}

}  // namespace sluice::gateway
