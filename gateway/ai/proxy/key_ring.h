// A provider's API keys, used in turn. One that the vendor refuses, or whose rate is used up, rests
// by itself.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string_view>
#include <vector>

#include "gateway/tls/secret.h"

namespace sluice::gateway::ai {

// Any thread. Outlives policies: a new one for the same keys takes over how long each rests.
class KeyRing {
 public:
  using Clock = std::chrono::steady_clock;

  explicit KeyRing(std::vector<tls::SecretPtr> keys);
  // The same keys, in the same order.
  bool same(const std::vector<tls::SecretPtr>& keys) const;
  // How long keys rest that `old` has too.
  void take_over(const KeyRing& old);

  bool empty() const { return keys_.empty(); }
  std::size_t size() const { return keys_.size(); }
  bool ready(Clock::time_point now) const;  // none of them rests, or there are none
  std::size_t resting(Clock::time_point now) const;
  // The next one in turn that does not rest; where all do, the one that is ready first.
  std::size_t choose(Clock::time_point now);
  std::string_view value(std::size_t index) const { return keys_[index].secret->view(); }
  void rest(std::size_t index, Clock::time_point until);

 private:
  struct Key {
    tls::SecretPtr secret;
    std::atomic<Clock::rep> rests_until{0};

    explicit Key(tls::SecretPtr from) : secret(std::move(from)) {}
    Key(Key&& other) noexcept
        : secret(std::move(other.secret)), rests_until(other.rests_until.load()) {}
  };
  std::vector<Key> keys_;
  std::atomic<std::size_t> turn_{0};
};

}  // namespace sluice::gateway::ai
