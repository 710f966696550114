// From "something changed" to "it is in force" or "it is refused, and the old one stays". Both
// modes of `run` use it; what putting in force means is theirs.
#pragma once

#include <cstdint>
#include <ctime>
#include <deque>
#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>

#include "gateway/control/policy_watcher.h"
#include "gateway/control/set_members.h"
#include "gateway/main/compiled_policy.h"
#include "gateway/main/first_policy.h"

namespace sluice::control {

struct ReloadOutcome {
  enum class Result { none, applied, unchanged, refused };
  Result result = Result::none;
  std::uint64_t generation = 0;  // in force afterwards
  std::string error;             // refused: what and why, a line each
  policy::Diagnostics diagnostics;
  std::time_t at = 0;

  bool ok() const { return result != Result::refused; }
  boost::json::object to_json() const;
};

// One thread.
class PolicyReloader {
 public:
  using Done = std::function<void(const ReloadOutcome&)>;
  struct Hooks {
    // Puts `candidate` in force as `generation`, all of it or nothing, and calls `done` exactly
    // once.
    std::function<void(const CompiledPolicy& candidate, std::uint64_t generation,
                       std::function<void(std::expected<void, std::string>)> done)>
        apply;
    std::function<void(const ReloadOutcome&)>
        ended;  // after each reload that did anything; may be empty
  };

  PolicyReloader(boost::asio::io_context& io, std::string path, FirstPolicy first,
                 std::uint64_t generation, Hooks hooks);

  // Follows the files from now on; reads them once, for what changed since the start.
  void watch();
  // One at a time; those that come meanwhile wait.
  void reload(Done done);

  // Reloads read `files` instead of what lies on disk, until nullopt: then the disk counts again, and
  // is looked at.
  void instead_of_disk(std::optional<std::vector<policy::PolicyFile>> files);
  // Members of sets that were added at run time. After a change: put_members_in_force(), which does
  // not look at what lies on disk, so that a broken policy there is no hindrance. Where that fails
  // it is tried again each second.
  gateway::SetMembers& members() { return members_; }
  void put_members_in_force(Done done);

  const CompiledPolicy& current() const { return current_; }
  std::uint64_t generation() const { return generation_; }
  const ReloadOutcome& last() const { return last_; }
  const std::string& path() const { return path_; }

 private:
  // What a reload reads: the files of the policy, and of the sets that the policy in force names.
  std::expected<std::vector<policy::PolicyFile>, std::string> read_files() const;
  void files_changed();
  void watch_sets(std::vector<std::string> named);
  void begin();
  void begin_from_disk();
  void begin_members();
  void apply(CompiledPolicy candidate);
  void expire_members();
  void finish(ReloadOutcome::Result result, std::string error = {},
              policy::Diagnostics diagnostics = {});
  void refuse(std::string error, policy::Diagnostics diagnostics = {});

  boost::asio::io_context& io_;
  std::string path_;
  CompiledPolicy current_;
  std::vector<policy::PolicyFile> tried_;  // what the last attempt read, good or not
  std::optional<std::vector<policy::PolicyFile>> instead_of_disk_;
  std::uint64_t generation_;
  std::uint64_t next_generation_;
  Hooks hooks_;
  ReloadOutcome last_;
  struct Job {
    Done done;
    bool members = false;  // else: from disk
  };
  std::deque<Job> waiting_;
  std::vector<Done> running_;
  bool busy_ = false;
  bool for_members_ = false;     // what runs is for their sake
  bool members_pending_ = false;  // changed, and not in force
  std::vector<std::string> missing_sets_;  // files that the last attempt could not read
  gateway::SetMembers members_;
  boost::asio::steady_timer members_timer_;
  std::unique_ptr<gateway::PolicyWatcher> watcher_;
  std::map<std::string, std::unique_ptr<gateway::PolicyWatcher>> set_watchers_;  // by path
};

// {"severity", "file", "line", "column", "message", "hint"} each.
boost::json::array to_json(const policy::Diagnostics& diagnostics);

// RFC 3339, UTC, whole seconds.
std::string time_text(std::time_t time);

}  // namespace sluice::control
