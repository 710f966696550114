#include "gateway/main/drops.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <net/if.h>

#include "gateway/main/kernel_plan.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr auto kPoll = 100ms;
constexpr auto kTell = 1s;
constexpr std::size_t kMaxBacklog = 256 * 1024;  // bytes; then a watcher misses lines

const char* action_name(kernel::GuardAction action) {
  switch (action) {
    case kernel::GuardAction::count:
      return "count";
    case kernel::GuardAction::limit:
      return "limit";
    case kernel::GuardAction::drop:
      break;
  }
  return "drop";
}

std::string protocol_name(int protocol) {
  switch (protocol) {
    case -1:
      return "unknown";
    case 1:
      return "icmp";
    case 6:
      return "tcp";
    case 17:
      return "udp";
    case 58:
      return "icmpv6";
    case 132:
      return "sctp";
    default:
      return std::to_string(protocol);
  }
}

// Events carry CLOCK_MONOTONIC.
std::string wall_clock(std::chrono::nanoseconds monotonic) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const auto age =
      std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec) - monotonic;
  const auto at = std::chrono::system_clock::now() - age;
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch());
  const std::time_t seconds = ms.count() / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 40> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text.data() + size, text.size() - size, ".%03dZ",
                static_cast<int>(ms.count() % 1000));
  return text.data();
}

std::string interface_name(unsigned index) {
  std::array<char, IF_NAMESIZE> name{};
  return ::if_indextoname(index, name.data()) != nullptr ? name.data()
                                                         : "#" + std::to_string(index);
}

std::string host(const kernel::Prefix& prefix) {
  return from_kernel(prefix).address.to_string();
}

}  // namespace

json::object handle_drops(const kernel::Keeper& keeper) {
  json::array rules;
  for (const auto& counter : keeper.rule_counters())
    rules.push_back(json::object{{"rule", counter.rule},
                                 {"action", action_name(counter.action)},
                                 {"mode", counter.audit ? "audit" : "enforce"},
                                 {"packets", counter.packets},
                                 {"bytes", counter.bytes},
                                 {"dropped", counter.dropped},
                                 {"would_drop", counter.would_drop}});
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  const auto bans = keeper.bans();
  for (const auto& ban : bans) {
    packets += ban.packets;
    bytes += ban.bytes;
  }
  return {{"ok", true},
          {"rules", std::move(rules)},
          {"bans", json::object{{"entries", bans.size()}, {"packets", packets}, {"bytes", bytes}}}};
}

json::object to_json(const kernel::DropEvent& event) {
  json::object out{{"time", wall_clock(event.when)},
                   {"verdict", event.audit ? "audit" : "drop"},
                   {"reason", event.reason}};
  if (!event.rule.empty()) out["rule"] = event.rule;
  out["from"] = host(event.from);
  if (event.from_port >= 0) out["from_port"] = event.from_port;
  out["to"] = host(event.to);
  if (event.to_port >= 0) out["to_port"] = event.to_port;
  out["protocol"] = protocol_name(event.protocol);
  out["interface"] = interface_name(event.interface_index);
  out["direction"] = event.egress ? "egress" : "ingress";
  out["bytes"] = event.bytes;
  return out;
}

void DropStreams::add(std::shared_ptr<gateway::AdminStream> stream) {
  stream->send({{"ok", true}});
  watchers_.push_back({std::move(stream), 0});
  if (watchers_.size() > 1) return;
  unreported_ = keeper_.unreported_drops();
  keeper_.poll_drops([](const kernel::DropEvent&) {});  // left over from the last watcher
  poll();
}

void DropStreams::send(const json::object& line) {
  for (Watcher& watcher : watchers_) {
    if (watcher.stream->backlog() < kMaxBacklog) {
      watcher.stream->send(line);
    } else {
      ++watcher.not_shown;
    }
  }
}

void DropStreams::tell_not_shown() {
  const auto now = std::chrono::steady_clock::now();
  if (now - told_ < kTell) return;
  told_ = now;
  const std::uint64_t unreported = keeper_.unreported_drops();
  for (Watcher& watcher : watchers_) {
    watcher.not_shown += unreported - unreported_;
    if (watcher.not_shown == 0 || watcher.stream->backlog() >= kMaxBacklog) continue;
    watcher.stream->send({{"not_shown", watcher.not_shown}});
    watcher.not_shown = 0;
  }
  unreported_ = unreported;
}

void DropStreams::poll() {
  std::erase_if(watchers_, [](const Watcher& watcher) { return !watcher.stream->open(); });
  if (watchers_.empty()) return;
  keeper_.poll_drops([this](const kernel::DropEvent& event) { send(to_json(event)); });
  tell_not_shown();
  timer_.expires_after(kPoll);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) poll();
  });
}

}  // namespace sluice::control
