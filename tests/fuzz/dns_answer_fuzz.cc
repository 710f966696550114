// Whatever a DNS server sends: read within its bounds, and what is taken from it is usable.
#include "gateway/upstream/dns_answer.h"

#include <algorithm>

#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::gateway;
using sluice::fuzz::require;

void read(std::span<const std::uint8_t> message, DnsType type) {
  const auto answer = parse_dns_answer(message, type);
  if (!answer) return;
  require(answer->addresses.size() <= kMaxDnsRecords && answer->services.size() <= kMaxDnsRecords,
          "bounded");
  require(std::ranges::is_sorted(answer->addresses) && std::ranges::is_sorted(answer->services),
          "sorted");
  require(answer->ttl.count() >= 0, "a time to live");
  require(type == DnsType::srv ? answer->addresses.empty() : answer->services.empty(),
          "only what was asked for");
  for (const SrvRecord& service : answer->services)
    require(!service.target.empty() && service.target.size() <= 255 && service.port != 0,
            "a target");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const DnsType type : {DnsType::a, DnsType::aaaa, DnsType::srv})
    read({data, size}, type);
  return 0;
}
