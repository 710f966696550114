#include "gateway/main/policy_reloader.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include <boost/asio/post.hpp>

#include "gateway/control/kept_pods.h"
#include "gateway/control/policy_source.h"
#include "gateway/log.h"
#include "gateway/main/frequent_yield.h"
#include "gateway/main/kept_sets.h"
#include "gateway/main/service_manager.h"
#include "policy/pods.h"

namespace sluice::control {
namespace {

using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
namespace json = boost::json;

// Smaller ones compile in less time than it takes to tell.
constexpr std::size_t kWorthAnnouncing = 64 * 1024;  // bytes

constexpr std::array<const char*, 4> kResultNames{"none", "applied", "unchanged", "refused"};

void log_lines(const std::string& text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    log_error("policy", text.substr(at, end - at));
    at = end + 1;
  }
}

void log_set_changes(const policy::Config& before, const policy::Config& after) {
  for (const auto& set : after.sets) {
    const auto old = std::ranges::find(before.sets, set.name, &policy::SetConfig::name);
    const std::size_t size = old == before.sets.end() ? 0 : old->members->size();
    if (old != before.sets.end() && old->members->digest() == set.members->digest()) continue;
    log_info("policy", "set",
             {{"name", set.name}, {"prefixes", set.members->size()}, {"before", size}});
  }
}

bool is_stale(const CompiledPolicy& policy, const std::string& set) {
  return std::ranges::find(policy.stale, set, &StaleSet::name) != policy.stale.end();
}

void log_mended_sets(const CompiledPolicy& before, const CompiledPolicy& after) {
  for (const auto& set : after.config().sets) {
    if (is_stale(before, set.name) && !is_stale(after, set.name))
      log_info("policy", "the file of a set is good again", {{"name", set.name}});
  }
}

}  // namespace

json::array to_json(const policy::Diagnostics& diagnostics) {
  json::array out;
  for (const auto& d : diagnostics) {
    out.push_back(json::object{
        {"severity", d.severity == policy::Diagnostic::Severity::error ? "error" : "warning"},
        {"file", d.where.file},
        {"line", d.where.line},
        {"column", d.where.column},
        {"message", d.message},
        {"hint", d.hint}});
  }
  return out;
}

std::string time_text(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

json::object ReloadOutcome::to_json() const {
  json::object out{{"ok", ok()},
                   {"result", kResultNames[static_cast<std::size_t>(result)]},
                   {"generation", generation}};
  if (at != 0) out["at"] = time_text(at);
  if (!error.empty()) out["error"] = error;
  if (!diagnostics.empty()) out["diagnostics"] = control::to_json(diagnostics);
  return out;
}

PolicyReloader::PolicyReloader(boost::asio::io_context& io, std::string path, FirstPolicy first,
                               std::uint64_t generation, Hooks hooks)
    : io_(io),
      path_(std::move(path)),
      current_(std::move(first.policy)),
      generation_(generation),
      next_generation_(generation + 1),
      hooks_(std::move(hooks)),
      members_(std::move(first.members)),
      pods_(std::move(first.pods)),
      members_timer_(io) {
  last_.generation = generation;
  if (first.problem.empty()) {
    tried_ = without_members(current_.files);
    return;
  }
  last_.result = ReloadOutcome::Result::refused;
  last_.error = std::move(first.problem);
  last_.at = std::time(nullptr);
}

void PolicyReloader::watch() {
  watcher_ = std::make_unique<gateway::PolicyWatcher>(io_, path_, [this] { files_changed(); });
  watch_sets({});
  expire_members();
  if (last_.ok()) files_changed();
}

// Of the policy in force, and those that a refused one named: their coming may mend it.
void PolicyReloader::watch_sets(std::vector<std::string> named) {
  for (const auto& set : current_.config().sets) {
    if (!set.file.empty()) named.push_back(set.file);
  }
  if (!watcher_) return;
  std::erase_if(set_watchers_, [&](const auto& entry) {
    return std::ranges::find(named, entry.first) == named.end();
  });
  bool more = false;
  for (const std::string& path : named) {
    auto& watcher = set_watchers_[path];
    if (watcher) continue;
    watcher = std::make_unique<gateway::PolicyWatcher>(io_, path, [this] { files_changed(); });
    more = true;
  }
  // It may have changed after it was read and before it was watched.
  if (more) boost::asio::post(io_, [this] { files_changed(); });
}

std::expected<std::vector<policy::PolicyFile>, std::string> PolicyReloader::read_files() const {
  auto files = gateway::read_policy(path_);
  if (!files) return files;
  for (const auto& known : tried_) {
    if (known.kind != policy::PolicyFile::Kind::set) continue;
    if (auto text = gateway::read_set_file(known.name))
      files->push_back({known.name, std::move(*text), known.kind});
  }
  return files;
}

std::vector<policy::PolicyFile> PolicyReloader::additions() const {
  std::vector<policy::PolicyFile> files = members_.files();
  if (!pods_.empty()) files.push_back({"pods", pods_, policy::PolicyFile::Kind::pods});
  return files;
}

std::vector<policy::PolicyFile> PolicyReloader::with_additions(
    std::vector<policy::PolicyFile> files) const {
  std::ranges::move(additions(), std::back_inserter(files));
  return files;
}

void PolicyReloader::set_pods(std::string pods) {
  if (pods == pods_) return;
  const auto gone = policy::addresses_gone(policy::parse_pods(pods_), policy::parse_pods(pods));
  pods_ = std::move(pods);
  if (const auto saved = gateway::save_pods(current_.config().state_dir, pods_); !saved)
    log_warn("policy", "cannot keep the pods for a start without the API server",
             {{"reason", saved.error()}});
  if (hooks_.pods_gone && !gone.empty()) hooks_.pods_gone(gone);
  put_members_in_force({});
}

// Signs of a change are many, changes few: a reload only when the bytes differ from those of the
// last attempt.
void PolicyReloader::files_changed() {
  if (!hold_.empty()) return;
  const auto files = read_files();
  const bool came = std::ranges::any_of(missing_sets_, [](const std::string& path) {
    return gateway::read_set_file(path).has_value();
  });
  if (files && *files == tried_ && !came) return;
  if (!files && last_.error == files.error()) return;
  reload({});
}

void PolicyReloader::hold(std::string why) {
  hold_ = std::move(why);
}

void PolicyReloader::release() {
  hold_.clear();
  boost::asio::post(io_, [this] { files_changed(); });
}

void PolicyReloader::reload(Done done, bool force) {
  add({.done = std::move(done), .kind = force ? Kind::forced : Kind::disk});
}

void PolicyReloader::put_members_in_force(Done done) {
  add({.done = std::move(done), .kind = Kind::members});
}

void PolicyReloader::put_in_force(std::vector<policy::PolicyFile> files, Source source, Done done) {
  add({.done = std::move(done), .kind = Kind::files, .files = std::move(files), .source = source});
}

void PolicyReloader::add(Job job) {
  waiting_.push_back(std::move(job));
  if (!busy_) begin();
}

// All that wait for the same are served at once.
void PolicyReloader::begin() {
  const FrequentYield yield;
  if (!hold_.empty()) refuse_held();
  if (waiting_.empty()) return;
  busy_ = true;
  Job first = std::move(waiting_.front());
  waiting_.pop_front();
  kind_ = first.kind;
  source_ = first.source;
  running_.push_back(std::move(first.done));
  if (kind_ != Kind::files) {
    for (Job& job : waiting_) {
      if (job.kind == kind_) running_.push_back(std::move(job.done));
    }
    std::erase_if(waiting_, [this](const Job& job) { return job.kind == kind_; });
  }
  tell_service_manager("RELOADING=1");
  if (kind_ == Kind::members) {
    members_pending_ = false;
    begin_members();
  } else if (kind_ != Kind::files) {
    begin_from_disk();
  } else if (source_ == Source::complete) {
    begin_complete(std::move(first.files));
  } else {
    begin_with_sets(std::move(first.files));
  }
}

// What lies on disk is looked at again when the hold ends, so nothing is lost.
void PolicyReloader::refuse_held() {
  std::deque<Job> refused;
  std::ranges::partition_copy(std::exchange(waiting_, {}), std::back_inserter(waiting_),
                              std::back_inserter(refused),
                              [](const Job& job) { return job.kind == Kind::files; });
  const ReloadOutcome outcome{.result = ReloadOutcome::Result::refused,
                              .generation = generation_,
                              .error = hold_,
                              .diagnostics = {},
                              .at = std::time(nullptr)};
  for (const Job& job : refused) {
    if (job.kind == Kind::members) members_pending_ = true;
    if (job.kind != Kind::members || job.done)
      log_warn("policy", "not reloaded", {{"reason", hold_}});
    if (job.done) job.done(outcome);
  }
}

void PolicyReloader::begin_from_disk() {
  auto files = gateway::read_policy(path_);
  if (!files) {
    tried_.clear();  // what comes back is a change, be it the same as before
    return refuse(files.error());
  }
  begin_with_sets(std::move(*files));
}

void PolicyReloader::begin_with_sets(std::vector<policy::PolicyFile> files) {
  tried_ = files;
  missing_sets_.clear();
  const auto known = read_known_sets();
  auto likely = files;
  std::ranges::copy(known, std::back_inserter(likely));
  announce(with_additions(std::move(likely)));
  files = with_additions(std::move(files));
  std::vector<std::string> named;
  auto compiled = compile_keeping_sets(files, current_.files, [&](const std::string& path) {
    const auto again = std::ranges::find_if(tried_, [&](const policy::PolicyFile& file) {
      return file.kind == policy::PolicyFile::Kind::set && file.name == path;
    });
    if (again != tried_.end()) return std::expected<std::string, std::string>(again->text);
    named.push_back(path);
    const auto read = std::ranges::find(known, path, &policy::PolicyFile::name);
    auto text = read == known.end() ? gateway::read_set_file(path) : read->text;
    if (text) {
      tried_.push_back({path, *text, policy::PolicyFile::Kind::set});
    } else {
      missing_sets_.push_back(path);
    }
    return text;
  });
  watch_sets(std::move(named));
  if (!compiled) {
    std::string text = to_text(compiled.error());
    return refuse(std::move(text), std::move(compiled.error()));
  }
  for (const auto& warning : compiled->warnings)
    log_warn("policy", warning.to_string());
  if (kind_ == Kind::disk) {
    if (const std::string why = cut_off(*compiled); !why.empty())
      return refuse(why + "; `sluice reload --force` puts it in force all the same");
  }
  apply(std::move(*compiled));
}

void PolicyReloader::begin_complete(std::vector<policy::PolicyFile> files) {
  tried_ = files;
  files = with_additions(std::move(files));
  announce(files);
  auto compiled = compile_policy(std::move(files));
  if (!compiled) return refuse(to_text(compiled.error()));
  compiled->stale = current_.stale;  // until the disk is looked at
  apply(std::move(*compiled));
}

// One line, however many connections and rules: the first names what to mend.
std::string PolicyReloader::cut_off(const CompiledPolicy& next) const {
  if (!hooks_.lock_out || next.snapshot->fingerprint() == current_.snapshot->fingerprint())
    return {};
  const auto reasons = hooks_.lock_out(current_, next);
  if (reasons.empty()) return {};
  std::string line = reasons.front();
  if (reasons.size() > 1) line += " (and " + std::to_string(reasons.size() - 1) + " more)";
  return line;
}

std::string PolicyReloader::cut_off_by(const gateway::SetMembers& next,
                                       const std::vector<policy::Prefix>& touched) const {
  if (!hooks_.lock_out || !hooks_.names_operator(touched)) return {};
  std::vector<policy::PolicyFile> files = without_members(current_.files);
  for (auto& file : next.files())
    files.push_back(std::move(file));
  if (!pods_.empty()) files.push_back({"pods", pods_, policy::PolicyFile::Kind::pods});
  const auto compiled = compile_policy(std::move(files));
  return compiled ? cut_off(*compiled) : std::string();
}

void PolicyReloader::begin_members() {
  std::vector<policy::PolicyFile> files = without_members(current_.files);
  files = with_additions(std::move(files));
  announce(files);
  auto compiled = compile_policy(std::move(files));
  if (!compiled) return refuse(to_text(compiled.error()));
  compiled->stale = current_.stale;
  apply(std::move(*compiled));
}

// Of the policy in force: the next one most likely names them too.
std::vector<policy::PolicyFile> PolicyReloader::read_known_sets() const {
  std::vector<policy::PolicyFile> known;
  for (const auto& set : current_.config().sets) {
    if (set.file.empty() ||
        std::ranges::find(known, set.file, &policy::PolicyFile::name) != known.end())
      continue;
    if (auto text = gateway::read_set_file(set.file))
      known.push_back({set.file, std::move(*text), policy::PolicyFile::Kind::set});
  }
  return known;
}

void PolicyReloader::announce(const std::vector<policy::PolicyFile>& files) {
  if (!hooks_.announce) return;
  std::size_t bytes = 0;
  for (const auto& file : files)
    bytes += file.text.size();
  if (bytes < kWorthAnnouncing) return;
  announced_ = next_generation_++;
  hooks_.announce(announced_, files);
}

void PolicyReloader::apply(CompiledPolicy given) {
  if (given.snapshot->fingerprint() == current_.snapshot->fingerprint()) {
    log_mended_sets(current_, given);
    current_.files = std::move(given.files);
    current_.stale = std::move(given.stale);
    if (kind_ != Kind::members && hooks_.unchanged) hooks_.unchanged();
    return finish(ReloadOutcome::Result::unchanged, {}, std::move(given.warnings));
  }
  auto candidate = std::make_shared<CompiledPolicy>(std::move(given));
  // A number is used once, so that a message about an attempt that was given up can never be taken
  // for the next.
  const std::uint64_t generation =
      announced_ != 0 ? std::exchange(announced_, 0) : next_generation_++;
  hooks_.apply(*candidate, generation,
               [this, candidate, generation](std::expected<void, std::string> applied) {
                 const FrequentYield yield;
                 if (!applied) {
                   if (hooks_.withdraw) hooks_.withdraw(generation);
                   return refuse(applied.error());
                 }
                 log_mended_sets(current_, *candidate);
                 log_set_changes(current_.config(), candidate->config());
                 const bool others = !current_.same_files(without_members(candidate->files));
                 std::swap(current_, *candidate);  // the one before is freed when all is done
                 generation_ = generation;
                 if (others && !puts_on_trial()) keep_as_last_good(current_);
                 watch_sets({});
                 finish(ReloadOutcome::Result::applied, {}, current_.warnings);
               });
}

void PolicyReloader::expire_members() {
  members_timer_.expires_after(std::chrono::seconds(1));
  members_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    if (members_.expire(gateway::SetMembers::Clock::now())) {
      if (const auto saved = members_.save(current_.config().state_dir); !saved)
        log_warn("policy", "cannot keep the members of sets", {{"reason", saved.error()}});
      members_pending_ = true;
    }
    if (members_pending_ && !busy_ && hold_.empty()) put_members_in_force({});
    expire_members();
  });
}

void PolicyReloader::refuse(std::string error, policy::Diagnostics diagnostics) {
  if (kind_ == Kind::members) {
    members_pending_ = true;
    log_warn("policy", "members of sets are not in force yet; trying again", {{"reason", error}});
    return finish(ReloadOutcome::Result::refused, std::move(error), std::move(diagnostics));
  }
  if (diagnostics.empty()) log_lines(error);
  for (const policy::Diagnostic& found : diagnostics) {
    const bool warning = found.severity == policy::Diagnostic::Severity::warning;
    warning ? log_warn("policy", found.to_string()) : log_error("policy", found.to_string());
  }
  log_error("policy", "refused; the old policy stays in force", {{"generation", generation_}});
  finish(ReloadOutcome::Result::refused, std::move(error), std::move(diagnostics));
}

void PolicyReloader::finish(ReloadOutcome::Result result, std::string error,
                            policy::Diagnostics diagnostics) {
  if (announced_ != 0) hooks_.withdraw(std::exchange(announced_, 0));
  const ReloadOutcome outcome{.result = result,
                              .generation = generation_,
                              .error = std::move(error),
                              .diagnostics = std::move(diagnostics),
                              .at = std::time(nullptr)};
  if (result == ReloadOutcome::Result::applied)
    log_info("policy", "in force", {{"generation", generation_}});
  // After a change of members, what lies on disk is as good or bad as it was.
  if (kind_ == Kind::members) {
    last_.generation = generation_;
  } else {
    last_ = outcome;
    if (hooks_.ended) hooks_.ended(outcome);
  }
  tell_service_manager("READY=1\nSTATUS=policy generation " + std::to_string(generation_));
  for (const auto& done : std::exchange(running_, {})) {
    if (done) done(outcome);
  }
  busy_ = false;
  if (!waiting_.empty())
    boost::asio::post(io_, [this] {
      if (!busy_) begin();
    });
}

}  // namespace sluice::control
