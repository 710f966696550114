#include <array>
#include <iostream>

#include "gateway/control/policy_source.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/compiled_policy.h"
#include "gateway/main/policy_reloader.h"
#include "gateway/main/tls_source.h"
#include "policy/dead_rules.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH",
               "the same as the word: a file or a directory, default /etc/sluice"},
    OptionSpec{"without-files", "", "not the certificates, keys and tokens that the policy names"},
    kOutputOption,
};

json::object summary_of(const policy::Config& config) {
  return {{"listeners", config.listeners.size()},
          {"routes", config.routes.size()},
          {"upstreams", config.upstreams.size()},
          {"limits", config.limits.size()},
          {"guard_rules", config.guard ? config.guard->rules.size() : 0},
          {"needs_kernel", config.needs_kernel()}};
}

void show(const std::string& path, const policy::Diagnostics& diagnostics,
          const CompiledPolicy* good) {
  for (const auto& diagnostic : diagnostics)
    std::cerr << diagnostic.to_string() << '\n';
  if (good == nullptr) {
    std::size_t errors = 0;
    for (const auto& d : diagnostics)
      errors += d.severity == policy::Diagnostic::Severity::error ? 1 : 0;
    std::cerr << path << ": " << errors << (errors == 1 ? " error\n" : " errors\n");
    return;
  }
  const auto& config = good->config();
  std::cout << path << ": good (" << config.listeners.size() << " listeners, "
            << config.routes.size() << " routes, " << config.upstreams.size() << " upstreams, "
            << config.limits.size() << " limits, "
            << (config.guard ? config.guard->rules.size() : 0) << " guard rules; "
            << (config.needs_kernel() ? "needs root: it intercepts, guards or bans"
                                      : "needs no privilege")
            << ")\n";
}

int check(const Arguments& arguments) {
  const std::string path =
      arguments.words().empty() ? arguments.get("policy", "/etc/sluice") : arguments.words()[0];
  const bool as_json = arguments.get("output") == "json";
  auto files = gateway::read_policy(path);
  if (!files) {
    if (as_json)
      std::cout << json::serialize(json::object{{"ok", false}, {"error", files.error()}}) << '\n';
    std::cerr << "sluice: " << files.error() << '\n';
    return kExitFailed;
  }
  auto compiled = compile_policy(std::move(*files), gateway::read_set_file);
  if (compiled) {
    for (auto& dead : policy::find_dead_rules(compiled->config()))
      compiled->warnings.push_back(std::move(dead));
  }
  if (compiled && !arguments.has("without-files")) {
    if (auto problems = check_tls_files(compiled->config()); !problems.empty()) {
      problems.insert(problems.begin(), compiled->warnings.begin(), compiled->warnings.end());
      compiled = std::unexpected(std::move(problems));
    }
  }
  const policy::Diagnostics& diagnostics = compiled ? compiled->warnings : compiled.error();
  if (as_json) {
    json::object out{{"ok", compiled.has_value()}, {"diagnostics", to_json(diagnostics)}};
    if (compiled) out["policy"] = summary_of(compiled->config());
    std::cout << json::serialize(out) << '\n';
  } else {
    show(path, diagnostics, compiled ? &*compiled : nullptr);
  }
  return compiled ? kExitOk : kExitFailed;
}

}  // namespace

const Command kCheckCommand{
    .name = "check",
    .words = "[PATH]",
    .summary = "Read a policy and print everything that is wrong with it, by file:line:column.",
    .details =
        "Changes nothing and needs no running sluice and no privilege. Certificates, keys and "
        "tokens that the policy names\nare read and tried too; with --without-files they are not, "
        "for a pipeline that has none of them.",
    .options = kOptions,
    .max_words = 1,
    .run = check,
};

}  // namespace sluice::control
