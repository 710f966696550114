#include "gateway/upstream/http2_check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <new>

namespace sluice::gateway {
namespace {

constexpr std::size_t kMostAnswer = 4096;
constexpr std::size_t kFrame = 5;  // gRPC: compressed or not, and four bytes of length

nghttp2_nv pair_of(std::string_view name, std::string_view value) {
  // nghttp2 copies both.
  return {.name = reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          .value = reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())),
          .namelen = name.size(),
          .valuelen = value.size(),
          .flags = NGHTTP2_NV_FLAG_NONE};
}

// HealthCheckRequest { string service = 1 }, framed.
std::string health_request(std::string_view service) {
  std::string message;
  if (service != "*" && !service.empty()) {
    message.push_back(0x0a);
    for (std::size_t size = service.size();; size >>= 7) {  // a varint
      message.push_back(static_cast<char>((size & 0x7f) | (size > 0x7f ? 0x80 : 0)));
      if (size <= 0x7f) break;
    }
    message += service;
  }
  std::string framed(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8)
    framed.push_back(static_cast<char>(message.size() >> shift));
  return framed + message;
}

std::optional<std::uint64_t> read_varint(std::string_view& left) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64 && !left.empty(); shift += 7) {
    const auto byte = static_cast<std::uint8_t>(left.front());
    left.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7fu} << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

std::string_view name_of_status(std::uint64_t status) {
  constexpr std::array<std::string_view, 4> kNames{"UNKNOWN", "SERVING", "NOT_SERVING",
                                                   "SERVICE_UNKNOWN"};
  return status < kNames.size() ? kNames[status] : "an unknown status";
}

}  // namespace

std::optional<std::uint64_t> parse_health_response(std::string_view message) {
  if (message.size() < kFrame || message[0] != 0)
    return std::nullopt;  // none we know is compressed
  message.remove_prefix(kFrame);
  std::uint64_t status = 0;  // proto3 leaves out what is 0
  while (!message.empty()) {
    const auto key = read_varint(message);
    if (!key) return std::nullopt;
    if ((*key & 7) == 0) {
      const auto value = read_varint(message);
      if (!value) return std::nullopt;
      if (*key >> 3 == 1) status = *value;
    } else if ((*key & 7) == 2) {
      const auto size = read_varint(message);
      if (!size || *size > message.size()) return std::nullopt;
      message.remove_prefix(*size);
    } else {
      return std::nullopt;
    }
  }
  return status;
}

Http2Check::Http2Check(const policy::HealthCheck& config, std::string_view scheme,
                       std::string_view authority)
    : grpc_(!config.grpc.empty()) {
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) throw std::bad_alloc();
  const std::unique_ptr<nghttp2_session_callbacks, decltype(&nghttp2_session_callbacks_del)> owner(
      callbacks, &nghttp2_session_callbacks_del);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, &on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &on_close);
  nghttp2_session* session = nullptr;
  if (nghttp2_session_client_new(&session, callbacks, this) != 0) throw std::bad_alloc();
  session_.reset(session);
  submit(config, scheme, authority);
}

Http2Check::~Http2Check() = default;

void Http2Check::submit(const policy::HealthCheck& config, std::string_view scheme,
                        std::string_view authority) {
  const nghttp2_settings_entry no_push{NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
  nghttp2_submit_settings(session_.get(), NGHTTP2_FLAG_NONE, &no_push, 1);
  const std::string_view path =
      grpc_ ? std::string_view("/grpc.health.v1.Health/Check") : std::string_view(config.http_path);
  const std::array<nghttp2_nv, 7> fields{
      pair_of(":method", grpc_ ? "POST" : "GET"),
      pair_of(":scheme", scheme),
      pair_of(":authority", authority),
      pair_of(":path", path),
      pair_of("user-agent", "sluice-health"),
      pair_of("content-type", "application/grpc"),
      pair_of("te", "trailers"),
  };
  constexpr std::size_t kPlain = 5;
  const nghttp2_data_provider body{.source = {.ptr = nullptr}, .read_callback = &read_body};
  if (grpc_) body_ = health_request(config.grpc);
  nghttp2_submit_request(session_.get(), nullptr, fields.data(), grpc_ ? fields.size() : kPlain,
                         grpc_ ? &body : nullptr, nullptr);
}

std::string Http2Check::take_output() {
  std::string out;
  const std::uint8_t* bytes = nullptr;
  while (true) {
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &bytes);
    if (size <= 0) return out;
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  }
}

bool Http2Check::feed(std::span<const char> bytes) {
  const ssize_t taken = nghttp2_session_mem_recv(
      session_.get(), reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  return taken >= 0 && (result_ || nghttp2_session_want_read(session_.get()) != 0);
}

void Http2Check::field(std::string_view name, std::string_view value) {
  int number = -1;
  std::from_chars(value.data(), value.data() + value.size(), number);
  if (name == ":status") status_ = number;
  if (name == "grpc-status") grpc_status_ = number;
}

void Http2Check::finish() {
  if (result_) return;
  if (grpc_ && status_ == 200) return finish_grpc();
  result_ = {.good = !grpc_ && status_ >= 200 && status_ < 400,
             .reason = status_ == 0 ? "no answer" : "HTTP " + std::to_string(status_)};
}

void Http2Check::finish_grpc() {
  if (grpc_status_.value_or(0) != 0) {
    result_ = {.good = false, .reason = "grpc-status " + std::to_string(*grpc_status_)};
    return;
  }
  const auto status = parse_health_response(answer_);
  constexpr std::uint64_t kServing = 1;
  if (!status) {
    result_ = {.good = false, .reason = "not a health response"};
  } else {
    result_ = {.good = status == kServing, .reason = std::string(name_of_status(*status))};
  }
}

int Http2Check::on_header(nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name,
                          std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                          std::uint8_t, void* self) {
  static_cast<Http2Check*>(self)->field({reinterpret_cast<const char*>(name), name_size},
                                        {reinterpret_cast<const char*>(value), value_size});
  return 0;
}

int Http2Check::on_data(nghttp2_session*, std::uint8_t, std::int32_t, const std::uint8_t* data,
                        std::size_t size, void* self) {
  auto& check = *static_cast<Http2Check*>(self);
  const std::size_t room = kMostAnswer - std::min(check.answer_.size(), kMostAnswer);
  check.answer_.append(reinterpret_cast<const char*>(data), std::min(size, room));
  return 0;
}

int Http2Check::on_close(nghttp2_session* session, std::int32_t, std::uint32_t, void* self) {
  static_cast<Http2Check*>(self)->finish();
  nghttp2_session_terminate_session(session, NGHTTP2_NO_ERROR);
  return 0;
}

ssize_t Http2Check::read_body(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t room,
                              std::uint32_t* flags, nghttp2_data_source*, void* self) {
  std::string& body = static_cast<Http2Check*>(self)->body_;
  const std::size_t size = std::min(room, body.size());
  std::copy_n(body.begin(), size, out);
  body.erase(0, size);
  if (body.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(size);
}

}  // namespace sluice::gateway
