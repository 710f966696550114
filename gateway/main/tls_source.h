// The files behind the policy's `tls`, followed while the process runs, and the keys of session
// tickets. In the process that reads the policy: the keeper, so that the gateway, which faces the
// network, needs no right to open a key; or the one process that there is.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/control/policy_watcher.h"
#include "gateway/metrics_samples.h"
#include "gateway/tls/files.h"
#include "policy/config.h"
#include "policy/diagnostic.h"
#include "policy/snapshot.h"

namespace sluice::control {

// The keys of session tickets, for the next program to go on with.
struct TicketKeysLeft {
  std::vector<gateway::tls::SecretPtr> keys{};  // the first one makes tickets
  std::chrono::seconds age{0};                  // of the first one
};

// One thread.
class TlsSource {
 public:
  // `changed`: current() is another one, for the policy in force.
  TlsSource(boost::asio::io_context& io, std::function<void()> changed);

  // All that `config` needs, tried out; null where it names no files. The error is located, a line
  // for each problem.
  std::expected<gateway::tls::MaterialPtr, std::string> load(const policy::Config& config);
  // `policy` is in force with what load() gave for it; its files are followed from now on.
  void adopt(std::shared_ptr<const policy::Snapshot> policy, gateway::tls::MaterialPtr material);

  // Reads the files of the policy in force again, now.
  void refresh();

  const gateway::tls::MaterialPtr& current() const { return current_; }
  // Before the first load(): clients of the program before resume here, and keys are made anew when
  // they would have been.
  void inherit(TicketKeysLeft left);
  TicketKeysLeft leave() const;
  std::vector<gateway::MetricSample> samples() const { return files_.samples(); }

 private:
  void rotate_ticket_keys();
  void rotate_after(std::chrono::steady_clock::duration pause);
  void publish(gateway::tls::Material material);

  boost::asio::io_context& io_;
  std::function<void()> changed_;
  gateway::tls::Files files_;
  gateway::tls::MaterialPtr current_;
  std::shared_ptr<const policy::Snapshot> policy_;  // in force
  gateway::tls::TicketKeys trial_keys_;
  gateway::tls::ContextsPtr trial_;
  std::vector<gateway::tls::SecretPtr> ticket_keys_;
  std::chrono::steady_clock::time_point rotated_{};
  boost::asio::steady_timer rotation_;
  std::unique_ptr<gateway::PolicyWatcher> watcher_;
  std::set<std::string> watched_;
};

// As diagnostics of the policy, for `check`.
policy::Diagnostics check_tls_files(const policy::Config& config);

}  // namespace sluice::control
