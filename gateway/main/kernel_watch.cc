#include "gateway/main/kernel_watch.h"

#include <algorithm>
#include <chrono>
#include <fcntl.h>
#include <utility>

#include "gateway/log.h"

namespace sluice::control {

using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;

namespace {
constexpr std::chrono::seconds kTick{1};
constexpr std::chrono::milliseconds kRenewal{333};  // a third of the shortest lease that there is
// Changes come in crowds: a flush is a message for each rule.
constexpr std::chrono::milliseconds kChangePause{20};
}  // namespace

KernelWatch::KernelWatch(boost::asio::io_context& io, kernel::Keeper& keeper,
                         std::function<bool()> alive, std::function<void()> each_second)
    : io_(io),
      keeper_(keeper),
      alive_(std::move(alive)),
      each_second_(std::move(each_second)),
      tick_timer_(io),
      lease_timer_(io),
      change_timer_(io) {}

void KernelWatch::start() {
  tick();
  keep_leases();
  watch_changes();
}

void KernelWatch::stop() {
  stopped_ = true;
  tick_timer_.cancel();
  lease_timer_.cancel();
}

void KernelWatch::pause(bool paused) {
  paused_ = paused;
  if (!paused_) look(alive_());
}

void KernelWatch::look(bool alive) {
  if (paused_ || stopped_) return;
  keeper_.tick(alive);
  for (const auto& notice : keeper_.take_notices())
    log_warn("keeper", notice);
  say_warnings();
}

void KernelWatch::tick() {
  look(alive_());
  each_second_();
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) tick();
  });
}

// Also while another keeper is about to take over, which may hang.
void KernelWatch::keep_leases() {
  if (alive_()) keeper_.keep_leases();
  lease_timer_.expires_after(kRenewal);
  lease_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) keep_leases();
  });
}

void KernelWatch::watch_changes() {
  for (const int fd : keeper_.change_fds()) {
    const int own = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return log_warn("keeper", "out of descriptors; changes are seen once a second");
    changes_.push_back(std::make_unique<boost::asio::posix::stream_descriptor>(io_, own));
    wait_for_change(*changes_.back());
  }
}

void KernelWatch::wait_for_change(boost::asio::posix::stream_descriptor& descriptor) {
  descriptor.async_wait(
      boost::asio::posix::descriptor_base::wait_read,
      [this, &descriptor](const boost::system::error_code& error) {
        if (error || stopped_) return;
        changed();
        auto pause = std::make_shared<boost::asio::steady_timer>(io_, 2 * kChangePause);
        pause->async_wait([this, pause, &descriptor](const boost::system::error_code& failed) {
          if (!failed) wait_for_change(descriptor);
        });
      });
}

void KernelWatch::changed() {
  change_timer_.expires_after(kChangePause);
  change_timer_.async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled && !stopped_) look(alive_());
  });
}

void KernelWatch::say_warnings() {
  say_problems();
  auto warnings = keeper_.warnings();
  if (warnings == said_) return;
  for (const auto& warning : warnings) {
    if (std::ranges::find(said_, warning) == said_.end())
      log_warn("keeper", "NOT AS ASKED FOR: " + warning);
  }
  for (const auto& former : said_) {
    if (std::ranges::find(warnings, former) == warnings.end())
      log_info("keeper", "no longer so: " + former);
  }
  said_ = std::move(warnings);
}

void KernelWatch::say_problems() {
  auto problems = keeper_.problems();
  if (problems == said_problems_) return;
  for (const auto& problem : problems) {
    if (std::ranges::find(said_problems_, problem) == said_problems_.end())
      log_error("keeper", problem);
  }
  if (problems.empty()) log_info("keeper", "intercepted connections reach their listeners again");
  said_problems_ = std::move(problems);
}

}  // namespace sluice::control
