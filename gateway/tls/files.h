// Reads the files of keys and secrets that a policy names, and keeps the last good content of each:
// a pair that is half-written, or does not match, never replaces one that is.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gateway/metrics_samples.h"
#include "gateway/tls/contexts.h"
#include "gateway/tls/material.h"
#include "policy/config.h"

namespace sluice::gateway::tls {

// One thread. Without ticket keys: those are put in by whoever has them.
class Files {
 public:
  // All that `config` names. What cannot be used now is taken from what is held already, with a
  // warning; where nothing is held, it is a problem.
  std::expected<Material, Problems> load(const policy::Config& config);
  // `config` and what load() gave for it are in force.
  void adopt(const policy::Config& config, Material material);

  // Reads again what is in force. True: something has changed, and current() has it.
  bool refresh();
  const Material& current() const { return current_; }

  const std::set<std::string>& paths() const { return paths_; }
  std::vector<MetricSample> samples() const;

 private:
  void refresh_secrets(bool& changed);  // sets it where one is
  void say_once(const std::string& file, const std::string& reason);

  Material current_;
  std::set<PairName> pairs_;                 // in force
  std::set<PairName> signers_;               // of them, those of certificate authorities of ours
  std::set<std::string> authorities_;        // the same
  std::set<std::string> secrets_;            // the same: `file:PATH`, `${NAME}`
  std::set<std::string> paths_;              // of all three
  std::map<std::string, std::string> said_;  // by file: the problem that was said of it
  std::uint64_t applied_ = 0;
  std::uint64_t refused_ = 0;
};

}  // namespace sluice::gateway::tls
