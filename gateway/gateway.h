// The data plane behind one object: workers, listeners, upstreams. Built and driven by the
// composition root.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/tls/material.h"
#include "policy/snapshot.h"

namespace sluice::gateway {

class AccessLog;
class Metrics;

// As the keeper numbers them (kernel::WayIn has the same values; main/ checks that).
enum class WayIn : std::uint8_t { bind = 0, local = 1, forward = 2, output = 3 };

// A listening socket that the gateway may accept from; the descriptor is the gateway's to close.
struct ListenerSocket {
  std::string listener;  // by name, as in the policy
  WayIn way = WayIn::bind;
  std::uint32_t worker = 0;
  int fd = -1;
};

// Asks for a source to be dropped in the kernel. Called on the control thread.
struct BanRequest {
  policy::Prefix source;
  std::chrono::seconds duration{};
  std::string reason;  // for people: which limit, which rule of the policy
};

struct GatewayOptions {
  std::uint32_t workers = 1;
  std::uint32_t own_mark = 0;  // SO_MARK of upstream sockets; 0: none set (no interception)
  std::function<void(const BanRequest&)> on_ban;
  // The control thread's: health checks, on_ban and drain's `done` run on it. Null: the gateway
  // makes a thread of its own for them. Must outlive the gateway.
  boost::asio::io_context* control = nullptr;
};

class Gateway {
 public:
  static std::unique_ptr<Gateway> create(GatewayOptions options);
  virtual ~Gateway() = default;  // stops at once

  // Starts, or moves every worker to a new policy. `sockets` are all that serve from now on:
  // listeners of the same name, way and worker keep accepting from the new descriptor, others stop
  // accepting and drain. Requests under way keep the policy they began with. Returns when every
  // worker has taken it over.
  // `material`: the files that the policy's `tls` names; null: it names none.
  virtual void apply(std::shared_ptr<const policy::Snapshot> snapshot,
                     std::vector<ListenerSocket> sockets, tls::MaterialPtr material = {}) = 0;
  // The same policy with newer files or ticket keys. Open connections are not touched.
  virtual void apply_tls(tls::MaterialPtr material) = 0;

  // Stops accepting, finishes what is open, then calls `done` (on the control thread), at
  // `deadline` at the latest.
  virtual void drain(std::chrono::milliseconds deadline, std::function<void()> done) = 0;

  // The same for these connections alone, by SO_COOKIE: no rule catches them any longer.
  virtual void drain_connections(std::vector<std::uint64_t> cookies,
                                 std::chrono::milliseconds deadline) = 0;

  virtual std::string status_json()
      const = 0;  // listeners, upstreams, endpoints with health, workers
  virtual std::string metrics_text() const = 0;  // Prometheus text format
  virtual Metrics& metrics() = 0;       // for the generation, reloads, and the kernel's samples
  virtual AccessLog* access_log() = 0;  // for reopen(); null before the first apply()

  // What it remembers of clients, for the gateway that takes its place (policy/carried_state): bans,
  // how often, and with `limits` the rates that are used up, which may be 96 MiB.
  virtual std::string remembered(bool limits) const = 0;
  // The same, of the gateway before. Before the first apply(). An error: it begins with nothing.
  virtual std::expected<void, std::string> remember(std::string_view bytes) = 0;
};

}  // namespace sluice::gateway
