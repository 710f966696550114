#include "gateway/main/policy_apply.h"

#include <algorithm>
#include <memory>

#include "gateway/control/policy_history.h"
#include "gateway/control/policy_source.h"
#include "gateway/log.h"
#include "gateway/main/kept_sets.h"
#include "gateway/main/policy_commands.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::log_info;
using gateway::log_warn;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;

constexpr std::int64_t kMaxConfirm = 3600;
constexpr const char* kOnTrial =
    "a policy waits for `sluice confirm`; confirm it, or `sluice rollback` first";
// While this process lives it is the first to go back.
constexpr auto kKernelLater = seconds(2);
constexpr auto kForTheGateway = seconds(30);  // to say that it serves what is on trial
constexpr auto kForTheDisk = seconds(60);     // to take what is confirmed
constexpr const char* kTooLate = "too late: the policy before is being put in force";

std::optional<std::int64_t> number_of(const json::object& request, std::string_view key) {
  const json::value* value = request.if_contains(key);
  if (value == nullptr || !value->is_int64()) return std::nullopt;
  return value->as_int64();
}

seconds left_of(Clock::time_point until) {
  return std::max(std::chrono::ceil<seconds>(until - Clock::now()), seconds(0));
}

}  // namespace

PolicyApply::PolicyApply(boost::asio::io_context& io, PolicyReloader& reloader, Hooks hooks)
    : reloader_(reloader), hooks_(std::move(hooks)), timer_(io) {}

void PolicyApply::add_commands(AdminCommands& commands) {
  commands.add("apply", [this](const json::object& request, const Respond& respond) {
    auto files = files_of(request);
    if (!files) return respond(admin_error(files.error()));
    apply(request, *files, BadFiles::refused, respond);
  });
  commands.add("confirm",
               [this](const json::object&, const Respond& respond) { respond(confirm()); });
  commands.add("history",
               [this](const json::object&, const Respond& respond) { respond(history()); });
  commands.add("rollback", [this](const json::object& request, const Respond& respond) {
    rollback(request, respond);
  });
}

bool PolicyApply::differs_from_disk() const {
  const auto files = gateway::read_policy(reloader_.path());
  return !files || policy_files(reloader_.current().files) != *files;
}

void PolicyApply::add_status(json::object& policy) const {
  policy["differs_from_disk"] = differs_from_disk();
  if (pending_) policy["unconfirmed_seconds"] = left_of(pending_->until).count();
}

// In the kernel it is on trial from its first packet on; when all of it is in force the time is
// set anew.
std::optional<Clock::time_point> PolicyApply::next_deadline() const {
  if (!wait_ || !reloader_.puts_on_trial()) return std::nullopt;
  return Clock::now() + *wait_ + kForTheGateway;
}

// Everything that can fail without a change comes before the first change.
void PolicyApply::apply(const json::object& request, const std::vector<policy::PolicyFile>& files,
                        BadFiles bad, const Respond& respond) {
  if (pending_) return respond(admin_error(kOnTrial));
  if (applying_) return respond(admin_error("another policy is being put in force; try again"));
  const auto confirm = number_of(request, "confirm_seconds");
  if (confirm && (*confirm < 1 || *confirm > kMaxConfirm))
    return respond(admin_error("--confirm is 1 second to 1 hour"));
  auto placed = gateway::placed_at(reloader_.path(), files);
  if (!placed) return respond(admin_error(placed.error()));
  auto complete = *placed;
  for (auto& file : reloader_.additions())
    complete.push_back(std::move(file));
  const std::vector<policy::PolicyFile> none;
  const auto next = compile_keeping_sets(
      complete, bad == BadFiles::kept ? reloader_.current().files : none, gateway::read_set_file);
  if (!next)
    return respond(admin_error(to_text(named_as_given(next.error(), reloader_.path(), files))));
  PlanContext context = hooks_.context ? hooks_.context() : PlanContext{};
  if (const json::value* ssh = request.if_contains("ssh"); ssh != nullptr && ssh->is_string()) {
    if (const auto connection = parse_ssh_connection(std::string(ssh->as_string())))
      context.operators.push_back(*connection);
  }
  const json::value* force = request.if_contains("force");
  if (force == nullptr || *force != true) {
    std::string text;
    for (const auto& line : lock_out(reloader_.current(), *next, context))
      text += (text.empty() ? "" : "\n") + line;
    if (!text.empty()) return respond(admin_error(text + "\n(--force applies it all the same)"));
  }
  auto writer = gateway::PolicyWriter::prepare(reloader_.path(), *placed);
  if (!writer) return respond(admin_error(writer.error()));

  auto kept = std::make_shared<gateway::PolicyWriter>(std::move(*writer));
  auto before = without_members(reloader_.current().files);
  const auto wait = confirm ? std::optional(seconds(*confirm)) : std::nullopt;
  applying_ = true;
  wait_ = wait;
  using Source = PolicyReloader::Source;
  reloader_.put_in_force(
      std::move(*placed), wait ? Source::trial : Source::given,
      [this, kept, before = std::move(before), wait, respond](const ReloadOutcome& outcome) {
        applying_ = false;
        wait_.reset();
        applied(outcome, wait, std::move(*kept), before, respond);
      });
}

void PolicyApply::applied(const ReloadOutcome& outcome, std::optional<seconds> confirm,
                          gateway::PolicyWriter writer, std::vector<policy::PolicyFile> before,
                          const Respond& respond) {
  json::object answer = outcome.to_json();
  answer["path"] = reloader_.path();
  if (!outcome.ok() || !confirm) {
    if (outcome.ok()) {
      if (auto written = writer.commit(); !written) {
        answer["ok"] = false;
        answer["error"] = "in force, but not written: " + written.error();
      }
    }
    reloader_.release();
    return respond(std::move(answer));
  }
  answer["confirm_seconds"] = confirm->count();
  pending_.emplace(Pending{
      .writer = std::move(writer), .before = std::move(before), .until = Clock::now() + *confirm});
  reloader_.hold(kOnTrial);
  if (hooks_.revert_at && !hooks_.revert_at(pending_->until + kKernelLater)) {
    go_back({});
    return respond(admin_error("it took too long to put in force; going back"));
  }
  log_info("policy", "in force until it is confirmed", {{"seconds", confirm->count()}});
  wait_for_confirmation();
  respond(std::move(answer));
}

void PolicyApply::wait_for_confirmation() {
  timer_.expires_at(pending_->until);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error || !pending_) return;
    log_warn("policy", "not confirmed; going back to the one before");
    go_back({});
  });
}

json::object PolicyApply::confirm() {
  if (!pending_) return admin_error("nothing waits for a confirmation");
  if (pending_->ending) return admin_error(kTooLate);
  // The disk may take its time, and the kernel would not know that somebody confirms.
  if (hooks_.revert_at && !hooks_.revert_at(Clock::now() + kForTheDisk)) {
    go_back({});
    return admin_error(kTooLate);
  }
  if (auto written = pending_->writer.commit(); !written) {
    if (hooks_.revert_at) hooks_.revert_at(pending_->until + kKernelLater);
    return admin_error(written.error());
  }
  if (hooks_.revert_at && !hooks_.revert_at(std::nullopt)) {
    go_back({});
    return admin_error(
        "written, but it took too long; the policy before is being put in force, and `sluice "
        "reload` does the rest");
  }
  timer_.cancel();
  pending_.reset();
  keep_as_last_good(reloader_.current());
  reloader_.release();
  log_info("policy", "confirmed", {{"generation", reloader_.generation()}});
  return {{"ok", true}, {"generation", reloader_.generation()}, {"path", reloader_.path()}};
}

// The kernel first, by itself and at once: should this process end now, it stays so. What lies on
// disk was never touched; it may have changed meanwhile, and counts then.
void PolicyApply::go_back(const std::function<void(const ReloadOutcome&)>& done) {
  timer_.cancel();
  pending_->ending = true;
  if (hooks_.revert_at) hooks_.revert_at(Clock::now());
  reloader_.put_in_force(
      pending_->before, PolicyReloader::Source::complete,
      [this, done](const ReloadOutcome& outcome) {
        if (outcome.ok()) {
          pending_.reset();
          reloader_.release();
        } else {
          log_warn("policy", "cannot go back yet; trying again", {{"reason", outcome.error}});
          timer_.expires_after(seconds(1));
          timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error && pending_) go_back({});
          });
        }
        if (done) done(outcome);
      });
}

json::object PolicyApply::history() const {
  json::array list;
  const gateway::PolicyHistory history(reloader_.current().config().state_dir);
  bool found = false;  // what went in force again later is so since then
  for (const auto& entry : history.entries()) {
    const auto files = history.load(entry.number);
    const bool in_force =
        !found && files && policy_files(reloader_.current().files) == *files;
    found = found || in_force;
    std::size_t bytes = 0;
    for (const auto& file : files.value_or(std::vector<policy::PolicyFile>{}))
      bytes += file.text.size();
    list.push_back(
        json::object{{"number", entry.number},
                     {"at", time_text(entry.at)},
                     {"files", files ? files->size() : 0},
                     {"bytes", bytes},
                     {"in_force", in_force}});
  }
  return {{"ok", true}, {"history", std::move(list)}};
}

// Unconfirmed: back at once. Else the newest that is not in force, or the one asked for.
void PolicyApply::rollback(const json::object& request, const Respond& respond) {
  const auto asked = number_of(request, "number");
  if (pending_ && !asked) {
    if (pending_->ending) return respond(admin_error("it is being rolled back already"));
    log_info("policy", "rolled back by hand");
    return go_back([respond](const ReloadOutcome& outcome) { respond(outcome.to_json()); });
  }
  const gateway::PolicyHistory history(reloader_.current().config().state_dir);
  for (const auto& entry : history.entries()) {
    if (asked && entry.number != static_cast<std::uint64_t>(*asked)) continue;
    auto files = history.load(entry.number);
    if (!files && !asked) {
      log_warn("policy", "left out of the history", {{"reason", files.error()}});
      continue;
    }
    if (!files) return respond(admin_error(files.error()));
    if (!asked && policy_files(reloader_.current().files) == *files) continue;
    return apply(request, *files, BadFiles::kept, respond);
  }
  respond(admin_error(asked ? "there is no policy " + std::to_string(*asked) +
                                  " in the history; see `sluice history`"
                            : "the history holds no other policy"));
}

}  // namespace sluice::control
