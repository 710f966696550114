// Answers of our own: short, plain, and safe to read by whoever gets them.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string_view>

#include "gateway/http1/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {
namespace {

std::string_view phrase(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 410:
      return "Gone";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 421:
      return "Misdirected Request";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 508:
      return "Loop Detected";
    default:
      return "Refused";
  }
}

// IMF-fixdate (RFC 9110 section 5.6.7). Of this thread, made anew once a second.
std::string_view date_now() {
  thread_local std::time_t last = 0;
  thread_local std::array<char, 32> text{};
  thread_local std::size_t size = 0;
  const std::time_t now = std::time(nullptr);
  if (now != last) {
    last = now;
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  }
  return {text.data(), size};
}

}  // namespace

void Exchange::refuse(int status, std::string_view reason) {
  refuse_after(status, reason, 0);
}

void Exchange::refuse_after(int status, std::string_view reason,
                            std::uint64_t retry_after_seconds) {
  state_ = State::refusing;
  timer_.cancel();
  status_ = status;
  reason_.assign(reason);
  if (!skip_request_body()) close_after_ = linger_after_ = true;
  if (!may_keep_client()) close_after_ = true;
  const std::string_view name = phrase(status);
  const std::string_view date = date_now();
  char retry[48] = "";
  if (retry_after_seconds > 0) {
    std::snprintf(retry, sizeof retry, "Retry-After: %llu\r\n",
                  static_cast<unsigned long long>(retry_after_seconds));
  }
  const bool body = body_at_ == 0 || request_.method() != Method::head;  // 0: no whole head
  constexpr std::string_view kPrefix = "sluice: ";
  const int shown = static_cast<int>(std::min<std::size_t>(reason.size(), 512));
  const std::size_t length = kPrefix.size() + static_cast<std::size_t>(shown) + 1;
  const int n =
      std::snprintf(response_memory_.data(), response_memory_.size(),
                    "HTTP/1.1 %d %.*s\r\nDate: %.*s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    "Content-Length: %zu\r\n%s%s%s\r\n%s%.*s%s",
                    status, static_cast<int>(name.size()), name.data(),
                    static_cast<int>(date.size()), date.data(), length,
                    status == 405 ? "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n" : "",
                    retry, close_after_ ? "Connection: close\r\n" : "", body ? kPrefix.data() : "",
                    body ? shown : 0, reason.data(), body ? "\n" : "");
  // An interim answer may still be in the outbox; it stays before this one.
  to_client_.add(std::string_view(response_memory_.data(), static_cast<std::size_t>(n)));
  response_complete_ = true;
  rearm();
  relay();
}

// A body that is here already is passed over; for one that is still coming the connection is not
// worth keeping.
bool Exchange::skip_request_body() {
  while (!request_body_.done()) {
    const BodyReader::Step step = request_body_.step(connection_->input().substr(body_at_));
    body_at_ += step.consumed;
    if (step.failed || step.consumed == 0) return false;
  }
  return true;
}

}  // namespace sluice::gateway::http1
