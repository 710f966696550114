// Phase limits: whether this client may have it now.
#include <algorithm>
#include <array>
#include <charconv>

#include "gateway/http/exchange.h"
#include "gateway/http1/request_fields.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

std::uint64_t seconds_of(std::uint64_t ns) {
  return (ns + kSecond - 1) / kSecond;
}

// Small texts on the stack.
class Text {
 public:
  Text& operator<<(std::string_view text) {
    end_ = std::ranges::copy(text.substr(0, room()), end_).out;
    return *this;
  }
  Text& operator<<(std::uint64_t number) {
    if (room() >= kDigits) end_ = std::to_chars(end_, end_ + kDigits, number).ptr;
    return *this;
  }
  operator std::string_view() const { return {bytes_.data(), end_}; }

 private:
  static constexpr std::size_t kDigits = 20;
  std::size_t room() const { return static_cast<std::size_t>(bytes_.data() + bytes_.size() - end_); }

  std::array<char, 192> bytes_;
  char* end_ = bytes_.data();
};

}  // namespace

void Exchange::limits() {
  const policy::CompiledRoute& route = config_->snapshot().route(*route_);
  if (mediator_) mediator_->describe(attributes_);
  if (route.limits.empty()) return on_limits_passed();
  const http1::RequestFields fields(request_, joined_field_);
  const bool destination = std::ranges::any_of(route.limits, [&](const policy::UsedLimit& used) {
    return config_->limit(used.index).uses_destination();
  });
  const auto now = static_cast<std::uint64_t>(begun_.time_since_epoch().count());
  switch (gate_.begin(*config_, route.limits, view(fields, destination), route.id, now)) {
    case LimitGate::Result::passed:
      return on_limits_passed();
    case LimitGate::Result::refused:
      return on_limits_refused();
    case LimitGate::Result::waiting:
      state_ = State::waiting;
      return client_->watch();  // so that a client that leaves is noticed
  }
}

void Exchange::on_limits_passed() {
  if (mediator_) return collected_ ? take_shares() : collect();
  if (actions_ != nullptr && answer_directly()) return;
  use_upstream(choose_upstream(config_->snapshot().route(*route_), worker_));
  pick();
}

// RFC 9110 section 10.2.3; draft-ietf-httpapi-ratelimit-headers-10 sections 3 and 4.
void Exchange::on_limits_refused() {
  if (gate_.banned()) client_->close_after(false);
  const policy::LimitHandle& limit = gate_.refused_by();
  const policy::LimitVerdict& verdict = gate_.verdict();
  const std::uint64_t seconds = std::max<std::uint64_t>(seconds_of(verdict.retry_after_ns), 1);
  Text retry_after;
  Text policy;
  Text state;
  retry_after << seconds;
  policy << "\"" << limit.name() << "\";q=";
  if (limit.is_concurrency()) {
    policy << limit.limit().max << ";qu=\"concurrent-requests\"";
  } else {
    policy << limit.limit().burst << ";w="
           << std::max<std::uint64_t>(seconds_of(limit.window_ns()), 1);
  }
  state << "\"" << limit.name() << "\";r=0;t=" << seconds;
  const std::array<ExtraField, 3> fields{
      {{"Retry-After", retry_after}, {"RateLimit-Policy", policy}, {"RateLimit", state}}};
  refuse(429, "limit " + limit.name() + " exceeded", fields);
}

}  // namespace sluice::gateway::http
