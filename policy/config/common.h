// What the sections of config.h share.
#pragma once

#include <chrono>

namespace sluice::policy {

using Duration = std::chrono::nanoseconds;
using namespace std::chrono_literals;

}  // namespace sluice::policy
