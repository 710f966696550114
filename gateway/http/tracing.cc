// What is remembered of a sampled request for a collector: a span of the request, one of what the
// policy made of it, and one of each try at an upstream. Nothing of it is done for others.
#include <algorithm>
#include <ctime>

#include "gateway/http/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

// Times of the steady clock as those of the wall. A worker's spans are told from one offset, or one
// would end some nanoseconds after the next began; another offset once the wall clock was set.
class WallClock {
 public:
  using Steady = std::chrono::steady_clock;
  WallClock() : now_(Steady::now()) {
    const auto measured =
        std::chrono::system_clock::now().time_since_epoch() - now_.time_since_epoch();
    if (std::chrono::abs(measured - offset_) > kSet) offset_ = measured;
  }
  Steady::time_point now() const { return now_; }
  std::int64_t at(Steady::time_point when) const {
    return std::chrono::nanoseconds(when.time_since_epoch() + offset_).count();
  }

 private:
  static constexpr std::chrono::milliseconds kSet{1};
  static thread_local std::chrono::nanoseconds offset_;
  Steady::time_point now_;
};
thread_local std::chrono::nanoseconds WallClock::offset_{};

// error.type of the conventions for HTTP: low in number, and no status where none came.
std::string_view error_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::connect_failure:
      return "connect_failure";
    case Outcome::connect_timeout:
      return "connect_timeout";
    case Outcome::reset:
      return "reset";
    case Outcome::timeout:
      return "timeout";
    default:
      return {};
  }
}

// The status itself, as the conventions want it.
std::string_view error_of(int status, int least) {
  constexpr std::string_view kFrom400 =
      "40040140240340440540640740840941041141241341441541641741841942042142242342442542642742842943"
      "0"
      "431";
  constexpr std::string_view kFrom500 = "500501502503504505506507508509510511";
  if (status < least) return {};
  const bool server = status >= 500;
  const std::string_view all = server ? kFrom500 : kFrom400;
  const auto at = static_cast<std::size_t>(status - (server ? 500 : 400)) * 3;
  return at < all.size() ? all.substr(at, 3) : std::string_view("_OTHER");
}

}  // namespace

bool Exchange::starts_traces() const {
  return listener().policy().trace_context == policy::TraceContext::start ||
         config_->policy().tracing.has_value();
}

// A new trace, begun here.
bool Exchange::sample() {
  const auto& tracing = config_->policy().tracing;
  if (!tracing) return worker_.random() % 100 < listener().policy().trace_sample;
  return static_cast<double>(worker_.random() >> 11) * 0x1p-53 < tracing->sample;
}

void Exchange::begin_spans() {
  recorded_ = sampled_ && config_->policy().tracing.has_value();
  if (recorded_) span_ = std::max<std::uint64_t>(worker_.random(), 1);
}

void Exchange::begin_try_span() {
  if (!traced_) return;
  try_span_ = std::max<std::uint64_t>(worker_.random(), 1);
  try_resends_ = tries_;
  try_status_ = 0;
  if (!recorded_) return;
  try_begun_ = Clock::now();
  if (decided_ == Clock::time_point{}) decided_ = try_begun_;
}

Span* Exchange::new_span(Span::Kind kind) {
  Span* const span = worker_.spans().begin();
  if (span == nullptr) return nullptr;
  span->kind = kind;
  span->trace = trace_id_;
  span->parent = span_;
  span->listener.assign(listener().name());
  if (head_read_) span->method.assign(request_.method_name());
  if (route_) span->route.assign(config_->policy().routes[*route_].name);
  if (cluster_ != nullptr) span->upstream.assign(cluster_->name());
  return span;
}

void Exchange::trace_try(Outcome outcome, int status) {
  if (!recorded_) return;
  Span* const span = new_span(Span::Kind::attempt);
  if (span == nullptr) return;
  const WallClock clock;
  span->id = try_span_;
  span->begun = clock.at(try_begun_);
  span->ended = clock.at(clock.now());
  span->status = status != 0 ? status : try_status_;
  span->resends = try_resends_;
  span->scheme = cluster_->config().tls ? "https" : "http";
  span->endpoint = attempt_.endpoint().address();
  span->path.assign(normal_path_);
  span->error = span->status == 0 ? error_of(outcome) : error_of(span->status, 400);
  if (span->error.empty()) span->error = error_of(outcome);  // an answer that broke off
  if (mediator_) {
    const Mediator::Facts facts = mediator_->facts();
    span->operation = facts.operation;
    span->provider = facts.provider;
    span->model.assign(facts.model);
    span->input_tokens = facts.input_tokens;
    span->output_tokens = facts.output_tokens;
  }
  worker_.spans().commit();
}

void Exchange::trace_request() {
  if (!recorded_) return;
  const WallClock clock;
  const bool forwarded = decided_ != Clock::time_point{};
  if (Span* const span = new_span(Span::Kind::decision)) {
    span->id = std::max<std::uint64_t>(worker_.random(), 1);
    span->begun = clock.at(begun_);
    span->ended = clock.at(forwarded ? decided_ : clock.now());
    const bool answered = status_ > 0 && status_ < 400;
    span->decision = forwarded ? "forward" : answered ? "answer" : "refuse";
    if (!forwarded) span->reason.assign(reason_);
    worker_.spans().commit();
  }
  Span* const span = new_span(Span::Kind::request);
  if (span == nullptr) return;
  span->id = span_;
  span->parent = parent_span_;
  span->remote_parent = parent_span_ != 0;
  span->begun = clock.at(begun_);
  span->ended = clock.at(clock.now());
  span->way = listener().way();
  span->status = status_;
  span->protocol = client_->protocol();
  span->scheme = client_scheme() == "https" ? "https" : "http";
  span->peer = client_->client().peer;
  span->client.assign(client_text());
  span->host.assign(host_);
  span->path.assign(normal_path_);
  if (route_) {
    const policy::PathMatch& path = config_->policy().routes[*route_].path;
    span->route_path.assign(path.kind == policy::PathMatch::Kind::any ? "/" : path.value);
  }
  span->reason.assign(reason_);
  span->error = status_ == 0 ? std::string_view("no_answer") : error_of(status_, 500);
  worker_.spans().commit();
}

}  // namespace sluice::gateway::http
