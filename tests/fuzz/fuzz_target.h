// Every fuzz target defines this one function, so that libFuzzer and run_seeds.cc can both drive
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace sluice::fuzz {

// A property that does not hold ends the process, which is how a fuzzer learns of it.
inline void require(bool holds, std::string_view property) {
  if (holds) return;
  std::cerr << "property violated: " << property << "\n";
  std::abort();
}

}  // namespace sluice::fuzz
