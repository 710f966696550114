// The typed form of `admin`, `metrics`, `tracing` and `logs`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/address.h"
#include "policy/config/auth.h"
#include "policy/config/common.h"
#include "policy/diagnostic.h"

namespace sluice::policy {

struct MetricsConfig {
  SocketAddress bind;
  std::vector<Prefix> allow;  // empty: everyone who can reach the address
};

struct AdminConfig {
  static constexpr std::string_view kFile = "file:";

  SocketAddress bind{IpAddress::v4(0x7f000001), 9901};
  std::vector<Prefix> allow;  // empty: everyone who can reach the address
  std::string token;          // file:PATH; empty: nothing can be changed
  std::vector<std::string> hosts;
  Location where;

  std::string token_file() const { return token.empty() ? token : token.substr(kFile.size()); }
  bool names_file() const { return token.empty() || token.starts_with(kFile); }
  bool operator==(const AdminConfig& other) const {
    return bind == other.bind && allow == other.allow && token == other.token &&
           hosts == other.hosts;
  }
};

struct TracingConfig {
  AuthUrl url;           // of /v1/traces; its upstream is made by complete()
  double sample = 0.01;  // 0 to 1, of the traces begun here
  std::string service = "sluice";
  Location where;
};

struct AccessLogConfig {
  enum class Format { json, text, none };
  Format format = Format::json;
  std::string path;  // "" or "stderr": standard error; "stdout"; else a file, appended
};

}  // namespace sluice::policy
