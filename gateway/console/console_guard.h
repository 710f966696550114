// Who may ask the console what. It listens on localhost, but a browser on that host visits other
// sites: those must neither read (DNS rebinding) nor change anything (CSRF).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/control/page_server.h"
#include "policy/address.h"

namespace sluice::gateway {

class ConsoleGuard {
 public:
  // `token_file` holds what a change must bring, and is read at each, so that a new one counts at
  // once; "": nothing can be changed. `hosts`: names that it is called by, beyond addresses and
  // localhost. `allow`: who may ask; empty: everybody.
  ConsoleGuard(std::string token_file, std::vector<std::string> hosts,
               std::vector<policy::Prefix> allow);

  // The answer to a request that may not go on. Every request names, as Host, an address (a name
  // of somebody else's could be pointed here, an address cannot) or a known name; one that a page
  // of another origin makes is refused; one with a body must be JSON, which such a page cannot
  // send without asking first.
  std::optional<PageAnswer> refusal(const PageRequest& request) const;
  // For what changes something.
  std::optional<PageAnswer> refusal_to_change(const PageRequest& request) const;

 private:
  bool known_host(std::string_view host) const;

  std::string token_file_;
  std::vector<std::string> hosts_;
  std::vector<policy::Prefix> allow_;
};

}  // namespace sluice::gateway
