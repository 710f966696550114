#include "gateway/auth/key_fetcher.h"

#include <algorithm>

#include "gateway/auth/auth_set.h"
#include "gateway/log.h"
#include "gateway/worker.h"

namespace sluice::gateway::auth {

namespace {

constexpr std::chrono::seconds kTick{1};
constexpr std::chrono::seconds kTimeout{5};
constexpr std::chrono::seconds kRetry{5};       // after a failure
constexpr std::chrono::seconds kRetryWithout{1};  // the same, while tokens are refused for it
constexpr std::chrono::seconds kAskedEvery{10};  // at most, for tokens with unknown keys

}  // namespace

void KeyFetcher::follow(RefPtr<WorkerConfig> config) {
  config_ = std::move(config);
  std::list<Target> kept;
  for (const AuthEntry& entry : config_->auth().entries()) {
    if (!entry.config.jwt || !entry.config.jwt->jwks_url) continue;
    const auto known = std::ranges::find(targets_, entry.keys, &Target::source);
    if (known != targets_.end()) {
      known->request.cancel();
      kept.splice(kept.end(), targets_, known);
    } else if (std::ranges::find(kept, entry.keys, &Target::source) != kept.end()) {
      continue;  // two entries with one source
    } else {
      kept.emplace_back(worker_).source = entry.keys;
    }
    Target& target = kept.back();
    target.name = entry.config.name;
    target.url = *entry.config.jwt->jwks_url;
    target.refresh = entry.config.jwt->refresh;
    target.upstream = entry.upstream;
    target.due = std::min(target.due, Clock::now() + target.refresh);
  }
  targets_ = std::move(kept);
  if (targets_.empty()) return timer_.cancel();
  tick();
}

void KeyFetcher::stop() {
  timer_.cancel();
  targets_.clear();
  config_.reset();
}

void KeyFetcher::tick() {
  const auto now = Clock::now();
  for (Target& target : targets_) {
    if (target.request.active()) continue;
    if (now >= target.due || (now >= target.not_before && target.source->take_asked())) {
      fetch(target);
    }
  }
  worker_.wheel().arm(timer_, kTick);
}

void KeyFetcher::fetch(Target& target) {
  const auto now = Clock::now();
  target.due = now + target.refresh;
  target.not_before = now + kAskedEvery;
  target.request.head()
      .assign("GET ")
      .append(target.url.target)
      .append(" HTTP/1.1\r\nhost: ")
      .append(target.url.authority)
      .append("\r\naccept: application/jwk-set+json, application/json\r\n\r\n");
  target.request.body().clear();
  if (!target.request.start(config_, target.upstream, {}, kTimeout, KeySet::kMaxBytes, *this)) {
    failed(target, "cannot be asked");
  }
}

void KeyFetcher::failed(Target& target, std::string_view why) {
  const bool without = target.source->generation() == 0;
  const std::chrono::nanoseconds pause = without ? kRetryWithout : kRetry;
  target.due = Clock::now() + std::min(pause, target.refresh);
  if (std::exchange(target.failing, true)) return;  // said once
  log_error("auth", without ? "no keys: tokens are refused" : "the last good keys stay in force",
            {{"auth", target.name}, {"url", target.url.text}, {"error", std::string(why)}});
}

void KeyFetcher::on_subrequest_ended(http::Subrequest& subrequest, http::SubrequestEnd end) {
  const auto found = std::ranges::find_if(
      targets_, [&](const Target& target) { return &target.request == &subrequest; });
  if (found == targets_.end()) return;
  if (end != http::SubrequestEnd::answered) return failed(*found, to_string(end));
  const int status = subrequest.response().status();
  if (status != 200) return failed(*found, "status " + std::to_string(status));
  auto keys = KeySet::parse(subrequest.answer());
  if (!keys) return failed(*found, keys.error());
  const bool recovered = std::exchange(found->failing, false);
  if (const bool changed = found->source->text() != subrequest.answer(); changed || recovered) {
    log_info("auth", "keys fetched",
             {{"auth", found->name},
              {"url", found->url.text},
              {"keys", std::to_string((*keys)->size())}});
  }
  found->source->put(std::move(*keys), subrequest.answer());
}

}  // namespace sluice::gateway::auth
