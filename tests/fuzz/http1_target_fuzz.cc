// Normalising a path must be idempotent, stay within its memory and leave nothing that a second
// reader could resolve; hosts must be read the same way when written again.
#include <array>
#include <string>
#include <vector>

#include "gateway/http1/target.h"
#include "policy/host.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::gateway::http1;
using sluice::fuzz::require;

void path(std::string_view text) {
  std::vector<char> scratch(text.size());
  const auto once = normalise_path(text, scratch);
  if (!once || *once == "*") return;
  require(once->starts_with('/') && once->size() <= text.size(), "an absolute path, not longer");
  require(once->find("//") == std::string_view::npos, "no empty segment inside");
  require(once->find("/./") == std::string_view::npos && !once->ends_with("/."), "no dot segment");
  require(once->find("/../") == std::string_view::npos && !once->ends_with("/.."), "no way up");
  require(once->find_first_of(std::string_view("?#\\\0\r\n ", 7)) == std::string_view::npos,
          "no octet that ends a path");
  std::vector<char> more(once->size());
  const auto twice = normalise_path(*once, more);
  require(twice && twice->data() == once->data() && twice->size() == once->size(), "idempotent");
}

void authority(std::string_view text) {
  const auto parsed = parse_authority(text);
  if (!parsed) return;
  std::string written = parsed->kind == HostKind::ipv6 ? "[" + std::string(parsed->host) + "]"
                                                       : std::string(parsed->host);
  if (parsed->port) written += ":" + std::to_string(*parsed->port);
  const auto again = parse_authority(written);
  require(again && again->host == parsed->host && again->port == parsed->port &&
              again->kind == parsed->kind,
          "reads the same again");
  std::array<char, sluice::policy::kMaxHostLength> memory;
  const auto host = sluice::policy::normalise_host(text, memory);
  require(host && !host->empty() && !host->ends_with('.'), "a host is left");
  std::array<char, sluice::policy::kMaxHostLength> more;
  require(sluice::policy::normalise_host(*host, more) == host, "idempotent");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  path(text);
  authority(text);
  return 0;
}
