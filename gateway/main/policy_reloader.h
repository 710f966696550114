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
  policy::Diagnostics diagnostics;  // in force all the same: warnings
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
    // What the files of `generation` will be, most likely, before they are compiled here, so that
    // others can begin with them: apply() of the same generation follows, or withdraw(). Only for
    // policies that take a while to compile; may be empty, both.
    std::function<void(std::uint64_t generation, const std::vector<policy::PolicyFile>& files)>
        announce = {};
    std::function<void(std::uint64_t generation)> withdraw = {};
    std::function<void(const ReloadOutcome&)>
        ended;  // after each reload that did anything; may be empty
    // A reload found the policy in force: what it names may have changed all the same. May be
    // empty.
    std::function<void()> unchanged = {};
    // Whom a policy from disk would cut off: a line each; may be empty.
    std::function<std::vector<std::string>(const CompiledPolicy& running,
                                           const CompiledPolicy& next)>
        lock_out;
    std::function<bool(const std::vector<policy::Prefix>&)> names_operator;  // with lock_out
    // Addresses that are no pod's any more; may be empty.
    std::function<void(const std::vector<policy::IpAddress>&)> pods_gone = {};
  };

  PolicyReloader(boost::asio::io_context& io, std::string path, FirstPolicy first,
                 std::uint64_t generation, Hooks hooks);

  // Follows the files from now on; reads them once, for what changed since the start.
  void watch();
  // One at a time; those that come meanwhile wait. What would cut the operator off is refused,
  // unless forced.
  void reload(Done done, bool force = false);

  // Files that do not lie on disk. `given`: what they name is read; `trial`: the same, and not kept
  // as the last good one; `complete`: with the texts of their sets. A set whose file is bad keeps
  // what it has, as when the disk is read.
  enum class Source : std::uint8_t { given, trial, complete };
  void put_in_force(std::vector<policy::PolicyFile> files, Source source, Done done);
  bool puts_on_trial() const { return busy_ && kind_ == Kind::files && source_ == Source::trial; }
  // From now on all but put_in_force() is refused, `why` being the reason; members of sets wait.
  void hold(std::string why);
  // The end of that: the disk counts again, and is looked at.
  void release();
  // Members of sets that were added at run time. After a change: put_members_in_force(), which does
  // not look at what lies on disk, so that a broken policy there is no hindrance. Where that fails
  // it is tried again each second.
  gateway::SetMembers& members() { return members_; }
  void put_members_in_force(Done done);
  // What comes at run time, as parse() takes it: those members, and pods.
  std::vector<policy::PolicyFile> additions() const;
  // This node's pods, as policy::to_text() writes them: in force likewise, and kept for the next
  // start.
  void set_pods(std::string pods);
  // Why `next`, which differs in `touched`, would cut the operator off; empty: it would not.
  std::string cut_off_by(const gateway::SetMembers& next,
                         const std::vector<policy::Prefix>& touched) const;

  const CompiledPolicy& current() const { return current_; }
  std::uint64_t generation() const { return generation_; }
  const ReloadOutcome& last() const { return last_; }
  const std::string& path() const { return path_; }

 private:
  // What a reload reads: the files of the policy, and of the sets that the policy in force names.
  std::expected<std::vector<policy::PolicyFile>, std::string> read_files() const;
  std::vector<policy::PolicyFile> with_additions(std::vector<policy::PolicyFile> files) const;
  void files_changed();
  void watch_sets(std::vector<std::string> named);
  enum class Kind : std::uint8_t { disk, forced, members, files };
  struct Job {
    Done done;
    Kind kind = Kind::disk;
    std::vector<policy::PolicyFile> files{};
    Source source = Source::given;
  };
  void add(Job job);
  void begin();
  void refuse_held();
  void begin_from_disk();
  void begin_with_sets(std::vector<policy::PolicyFile> files);
  void begin_complete(std::vector<policy::PolicyFile> files);
  void begin_members();
  std::vector<policy::PolicyFile> read_known_sets() const;
  void announce(const std::vector<policy::PolicyFile>& files);
  std::string cut_off(const CompiledPolicy& next) const;  // why it would; empty: it would not
  void apply(CompiledPolicy candidate);
  void expire_members();
  void finish(ReloadOutcome::Result result, std::string error = {},
              policy::Diagnostics diagnostics = {});
  void refuse(std::string error, policy::Diagnostics diagnostics = {});

  boost::asio::io_context& io_;
  std::string path_;
  CompiledPolicy current_;
  std::vector<policy::PolicyFile> tried_;  // what the last attempt read, good or not
  std::string hold_;                       // why nothing is reloaded; empty: it is
  std::uint64_t generation_;
  std::uint64_t next_generation_;
  std::uint64_t announced_ = 0;  // neither applied nor withdrawn yet
  Hooks hooks_;
  ReloadOutcome last_;
  std::deque<Job> waiting_;
  std::vector<Done> running_;
  bool busy_ = false;
  Kind kind_ = Kind::disk;                 // of what runs
  Source source_ = Source::given;          // likewise
  bool members_pending_ = false;           // changed, and not in force
  std::vector<std::string> missing_sets_;  // files that the last attempt could not read
  gateway::SetMembers members_;
  std::string pods_;
  boost::asio::steady_timer members_timer_;
  std::unique_ptr<gateway::PolicyWatcher> watcher_;
  std::map<std::string, std::unique_ptr<gateway::PolicyWatcher>> set_watchers_;  // by path
};

// {"severity", "file", "line", "column", "message", "hint"} each.
boost::json::array to_json(const policy::Diagnostics& diagnostics);

// RFC 3339, UTC, whole seconds.
std::string time_text(std::time_t time);

}  // namespace sluice::control
