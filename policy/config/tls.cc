#include "policy/config/tls.h"

#include <algorithm>

namespace sluice::policy {

const std::string* CertificateAuthority::entry_for(std::string_view host) const {
  if (const auto exact = std::ranges::find(hosts, host); exact != hosts.end()) return &*exact;
  // A wildcard stands for one label (RFC 6125 section 6.4.3).
  const std::size_t dot = host.find('.');
  if (dot == std::string_view::npos || dot == 0) return nullptr;
  const auto wild = std::ranges::find_if(hosts, [&](std::string_view entry) {
    return entry.starts_with("*.") && entry.substr(1) == host.substr(dot);
  });
  return wild == hosts.end() ? nullptr : &*wild;
}

}  // namespace sluice::policy
