// The keeper reads what a gateway sends that may have been taken over: any bytes are refused, or
// are a message that encodes to the same bytes again.
#include "kernel/keeper_protocol.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice::kernel::protocol;
  const auto message = decode({data, size});
  if (!message) return 0;
  const auto again = encode(*message);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  sluice::fuzz::require(again && *again == bytes, "a decoded message encodes to itself");
  sluice::fuzz::require(descriptors_of(*message) <= kMaxDescriptors,
                        "a bounded number of descriptors");
  return 0;
}
