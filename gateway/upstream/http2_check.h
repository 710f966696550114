// A health check over HTTP/2 with prior knowledge: a GET, or gRPC's health protocol
// (grpc.health.v1, https://github.com/grpc/grpc/blob/master/doc/health-checking.md). Only the
// bytes; the probe moves them.
#pragma once

#include <cstdint>
#include <memory>
#include <nghttp2/nghttp2.h>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "policy/config.h"

namespace sluice::gateway {

struct Http2CheckResult {
  bool good = false;
  std::string reason;  // "SERVING", "HTTP 503", "grpc-status 5"
};

// One request on one connection.
class Http2Check {
 public:
  // By config.grpc, else config.http_path. `scheme`: the connection's; origins compare them (RFC
  // 9113 section 8.3.1). `authority`: "10.0.0.1:80".
  Http2Check(const policy::HealthCheck& config, std::string_view scheme,
             std::string_view authority);
  ~Http2Check();
  Http2Check(const Http2Check&) = delete;
  Http2Check& operator=(const Http2Check&) = delete;

  // What is to be sent now; valid until the next call.
  std::string take_output();
  // What has come. False: not HTTP/2, or the peer has ended it.
  bool feed(std::span<const char> bytes);
  const std::optional<Http2CheckResult>& result() const { return result_; }

 private:
  struct Deleter {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };
  void submit(const policy::HealthCheck& config, std::string_view scheme,
              std::string_view authority);
  void field(std::string_view name, std::string_view value);
  void finish();
  void finish_grpc();

  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                       std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                       std::uint8_t flags, void* self);
  static int on_data(nghttp2_session*, std::uint8_t flags, std::int32_t stream,
                     const std::uint8_t* data, std::size_t size, void* self);
  static int on_close(nghttp2_session*, std::int32_t stream, std::uint32_t error, void* self);
  static ssize_t read_body(nghttp2_session*, std::int32_t stream, std::uint8_t* out,
                           std::size_t room, std::uint32_t* flags, nghttp2_data_source* source,
                           void* self);

  std::unique_ptr<nghttp2_session, Deleter> session_;
  const bool grpc_;
  std::string body_;  // of the request; what is left of it
  std::string answer_;
  int status_ = 0;
  std::optional<int> grpc_status_;
  std::optional<Http2CheckResult> result_;
};

// The status in a HealthCheckResponse with gRPC's frame before it; nullopt: it is none.
std::optional<std::uint64_t> parse_health_response(std::string_view message);

}  // namespace sluice::gateway
