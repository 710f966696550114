// Policies that were in force, the last twenty, for `sluice history` and `sluice rollback`.
#pragma once

#include <cstdint>
#include <ctime>
#include <expected>
#include <string>
#include <vector>

#include "policy/document.h"

namespace sluice::gateway {

class PolicyHistory {
 public:
  static constexpr std::size_t kKept = 20;

  struct Entry {
    std::uint64_t number = 0;  // grows; never used again
    std::time_t at = 0;        // when it came into force
  };

  explicit PolicyHistory(const std::string& state_dir);

  // Adds an entry unless the newest one has the same files; forgets the oldest. Files of mode 0600.
  std::expected<void, std::string> record(const std::vector<policy::PolicyFile>& files) const;
  std::vector<Entry> entries() const;  // the newest first
  std::expected<std::vector<policy::PolicyFile>, std::string> load(std::uint64_t number) const;

 private:
  std::string path(std::uint64_t number) const;
  std::string directory_;
};

}  // namespace sluice::gateway
