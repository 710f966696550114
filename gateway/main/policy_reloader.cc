#include "gateway/main/policy_reloader.h"

#include <algorithm>
#include <array>
#include <optional>

#include <boost/asio/post.hpp>

#include "gateway/control/policy_source.h"
#include "gateway/log.h"
#include "gateway/main/service_manager.h"

namespace sluice::control {
namespace {

using gateway::log_error;
using gateway::log_info;
using gateway::log_warn;
namespace json = boost::json;

constexpr std::array<const char*, 4> kResultNames{"none", "applied", "unchanged", "refused"};

bool same(const std::vector<policy::PolicyFile>& a, const std::vector<policy::PolicyFile>& b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return x.name == y.name && x.text == y.text; });
}

void log_lines(const std::string& text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    log_error("policy", text.substr(at, end - at));
    at = end + 1;
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
      hooks_(std::move(hooks)) {
  last_.generation = generation;
  if (first.problem.empty()) {
    tried_ = current_.files;
    return;
  }
  last_.result = ReloadOutcome::Result::refused;
  last_.error = std::move(first.problem);
  last_.at = std::time(nullptr);
}

void PolicyReloader::watch() {
  watcher_ = std::make_unique<gateway::PolicyWatcher>(io_, path_, [this] { files_changed(); });
  if (last_.ok()) files_changed();
}

// Signs of a change are many, changes few: a reload only when the bytes differ from those of the
// last attempt.
void PolicyReloader::files_changed() {
  const auto files = gateway::read_policy(path_);
  if (files && same(*files, tried_)) return;
  if (!files && last_.error == files.error()) return;
  reload({});
}

void PolicyReloader::reload(Done done) {
  waiting_.push_back(std::move(done));
  if (!busy_) begin();
}

void PolicyReloader::begin() {
  busy_ = true;
  running_.assign(std::make_move_iterator(waiting_.begin()),
                  std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  tell_service_manager("RELOADING=1");

  auto files = gateway::read_policy(path_);
  if (!files) return refuse(files.error());
  tried_ = *files;
  if (current_.same_files(*files)) return finish(ReloadOutcome::Result::unchanged);
  auto compiled = compile_policy(std::move(*files));
  if (!compiled) {
    std::string text = to_text(compiled.error());
    return refuse(std::move(text), std::move(compiled.error()));
  }
  for (const auto& warning : compiled->warnings)
    log_warn("policy", warning.to_string());
  if (compiled->snapshot->fingerprint() == current_.snapshot->fingerprint()) {
    current_.files = std::move(compiled->files);
    return finish(ReloadOutcome::Result::unchanged);
  }

  auto candidate = std::make_shared<CompiledPolicy>(std::move(*compiled));
  // A number is used once, so that a message about an attempt that was given up can never be taken
  // for the next.
  const std::uint64_t generation = next_generation_++;
  hooks_.apply(*candidate, generation,
               [this, candidate, generation](std::expected<void, std::string> applied) {
                 if (!applied) return refuse(applied.error());
                 current_ = std::move(*candidate);
                 generation_ = generation;
                 keep_as_last_good(current_);
                 finish(ReloadOutcome::Result::applied);
               });
}

void PolicyReloader::refuse(std::string error, policy::Diagnostics diagnostics) {
  log_lines(error);
  log_error("policy", "refused; the old policy stays in force", {{"generation", generation_}});
  finish(ReloadOutcome::Result::refused, std::move(error), std::move(diagnostics));
}

void PolicyReloader::finish(ReloadOutcome::Result result, std::string error,
                            policy::Diagnostics diagnostics) {
  last_ = {.result = result,
           .generation = generation_,
           .error = std::move(error),
           .diagnostics = std::move(diagnostics),
           .at = std::time(nullptr)};
  if (last_.result == ReloadOutcome::Result::applied)
    log_info("policy", "in force", {{"generation", generation_}});
  if (hooks_.ended) hooks_.ended(last_);
  tell_service_manager("READY=1\nSTATUS=policy generation " + std::to_string(generation_));
  for (const auto& done : std::exchange(running_, {})) {
    if (done) done(last_);
  }
  busy_ = false;
  if (!waiting_.empty())
    boost::asio::post(io_, [this] {
      if (!busy_ && !waiting_.empty()) begin();
    });
}

}  // namespace sluice::control
