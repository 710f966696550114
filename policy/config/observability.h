// The typed form of `metrics` and `logs`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct MetricsConfig {
  SocketAddress bind;
  std::vector<Prefix> allow;  // empty: everyone who can reach the address
};

struct AccessLogConfig {
  enum class Format { json, text, none };
  Format format = Format::json;
  std::string path;  // "" or "stderr": standard error; "stdout"; else a file, appended
};

}  // namespace sluice::policy
