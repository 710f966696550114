#include "gateway/main/kept_sets.h"

#include <algorithm>
#include <map>
#include <utility>

namespace sluice::control {
namespace {

using policy::Diagnostic;
using Kind = policy::PolicyFile::Kind;

const std::string* text_among(const std::vector<policy::PolicyFile>& files,
                              const std::string& path) {
  const auto found = std::ranges::find_if(files, [&](const policy::PolicyFile& file) {
    return file.kind == Kind::set && file.name == path;
  });
  return found == files.end() ? nullptr : &found->text;
}

class KeptSets {
 public:
  KeptSets(const std::vector<policy::PolicyFile>& running, const policy::SetReader& read_set)
      : running_(running), read_set_(read_set) {}

  std::expected<CompiledPolicy, policy::Diagnostics> compile(
      const std::vector<policy::PolicyFile>& files) {
    const policy::SetReader reader = [this](const std::string& path) { return read(path); };
    auto compiled = compile_policy(files, reader);
    if (compiled) return compiled;
    policy::Diagnostics wrong = std::move(compiled.error());
    // Again and again, since only so many errors are told at a time.
    for (auto found = wrong; !compiled && learn(found);) {
      compiled = compile_policy(files, reader);
      if (!compiled) found = compiled.error();
    }
    if (!compiled) return std::unexpected(std::move(wrong));
    mark(*compiled);
    return compiled;
  }

 private:
  struct Bad {
    Diagnostic first;  // nowhere: the file cannot be read
    std::size_t errors = 0;
  };

  std::expected<std::string, std::string> read(const std::string& path) {
    if (bad_.contains(path)) return *text_among(running_, path);
    auto text = read_set_(path);
    if (!text && text_among(running_, path) != nullptr) unread_[path] = text.error();
    return text;
  }

  // Which files are bad that were not known to be; false: none.
  bool learn(const policy::Diagnostics& found) {
    std::map<std::string, Bad> more;
    for (const auto& [path, why] : unread_)
      more[path] = {
          .first = {.where = {}, .message = "cannot read " + path + ": " + why, .hint = {}},
          .errors = 1};
    unread_.clear();
    for (const Diagnostic& one : found) {
      const std::string& path = one.where.file;
      if (one.severity != Diagnostic::Severity::error || bad_.contains(path) ||
          text_among(running_, path) == nullptr)
        continue;
      Bad& bad = more[path];
      if (bad.errors++ == 0) bad.first = one;
    }
    const bool some = !more.empty();
    bad_.merge(more);
    return some;
  }

  void mark(CompiledPolicy& compiled) const {
    for (const policy::SetConfig& set : compiled.config().sets) {
      const auto found = bad_.find(set.file);
      if (found == bad_.end()) continue;
      const auto& [first, errors] = found->second;
      Diagnostic why{.severity = Diagnostic::Severity::warning,
                     .where = first.where.line == 0 ? set.file_where : first.where,
                     .message = "sets." + set.name + " keeps what it had: " + first.message,
                     .hint = first.hint};
      if (errors > 1) why.message += ", and " + std::to_string(errors - 1) + " more";
      compiled.warnings.push_back(why);
      compiled.stale.push_back({.name = set.name, .why = std::move(why)});
    }
  }

  const std::vector<policy::PolicyFile>& running_;
  const policy::SetReader& read_set_;
  std::map<std::string, std::string> unread_;  // path ─► why, of the last attempt
  std::map<std::string, Bad> bad_;             // by path
};

}  // namespace

std::expected<CompiledPolicy, policy::Diagnostics> compile_keeping_sets(
    const std::vector<policy::PolicyFile>& files, const std::vector<policy::PolicyFile>& running,
    const policy::SetReader& read_set) {
  return KeptSets(running, read_set).compile(files);
}

std::vector<std::string> stale_warnings(const CompiledPolicy& policy) {
  std::vector<std::string> out;
  for (const auto& [name, why] : policy.stale) {
    out.push_back(why.where.to_string() + ": " + why.message +
                  (why.hint.empty() ? "" : " (" + why.hint + ")"));
  }
  return out;
}

std::vector<gateway::MetricSample> stale_samples(const CompiledPolicy& policy) {
  std::vector<gateway::MetricSample> out;
  for (const policy::SetConfig& set : policy.config().sets) {
    if (set.file.empty()) continue;
    const bool stale =
        std::ranges::find(policy.stale, set.name, &StaleSet::name) != policy.stale.end();
    out.push_back({.name = "sluice_set_stale",
                   .help = "1 while the set holds what its file said before, since that cannot be "
                           "read or has errors.",
                   .type = gateway::SampleType::gauge,
                   .labels = {{"set", set.name}},
                   .value = stale ? 1.0 : 0.0});
  }
  return out;
}

}  // namespace sluice::control
