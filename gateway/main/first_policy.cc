#include "gateway/main/first_policy.h"

#include "gateway/control/kept_pods.h"
#include "gateway/control/last_good.h"
#include "gateway/control/policy_history.h"
#include "gateway/control/policy_source.h"
#include "gateway/log.h"

namespace sluice::control {
namespace {

using gateway::log_error;
using gateway::log_info;

// A broken policy cannot be asked for its state_dir, but a line that begins with the word tells
// well enough.
std::string guess_state_dir(const std::vector<policy::PolicyFile>& files) {
  constexpr std::string_view kKey = "state_dir:";
  for (const auto& file : files) {
    for (std::size_t at = file.text.find(kKey); at != std::string::npos;
         at = file.text.find(kKey, at + 1)) {
      if (at != 0 && file.text[at - 1] != '\n') continue;
      const std::size_t end = file.text.find('\n', at);
      std::string value = file.text.substr(at + kKey.size(),
                                           end == std::string::npos ? end : end - at - kKey.size());
      value.erase(0, value.find_first_not_of(" \t\"'"));
      value.erase(std::min(value.find_first_of(" \t\"'#\r"), value.size()));
      if (value.starts_with('/')) return value;
    }
  }
  return policy::Config{}.state_dir;
}

void load_members(FirstPolicy& first) {
  const auto loaded = first.members.load(first.policy.config().state_dir,
                                         gateway::SetMembers::Clock::now());
  if (loaded) return;
  log_error("policy", "the members of sets that were added at run time are lost",
            {{"reason", loaded.error()}});
}

void load_pods(FirstPolicy& first) {
  if (!first.policy.config().kubernetes) return;
  auto pods = gateway::load_pods(first.policy.config().state_dir);
  if (pods) {
    first.pods = std::move(*pods);
  } else {
    log_error("policy", "the pods that were heard of last are lost", {{"reason", pods.error()}});
  }
}

FirstPolicy with_members(CompiledPolicy policy, std::string problem) {
  FirstPolicy first{.policy = std::move(policy), .members = {}, .problem = std::move(problem)};
  load_members(first);
  load_pods(first);
  if (first.members.size() == 0 && first.pods.empty()) return first;
  std::vector<policy::PolicyFile> files = first.policy.files;
  for (auto& file : first.members.files())
    files.push_back(std::move(file));
  if (!first.pods.empty()) files.push_back({"pods", first.pods, policy::PolicyFile::Kind::pods});
  if (auto again = compile_policy(std::move(files))) first.policy = std::move(*again);
  return first;
}

}  // namespace

FirstPolicy take_over_policy(CompiledPolicy policy) {
  FirstPolicy first{.policy = std::move(policy), .members = {}, .problem = {}};
  first.pods = pods_in(first.policy.files);
  load_members(first);
  return first;
}

std::expected<FirstPolicy, std::string> load_first_policy(const std::string& path) {
  std::string problem;
  std::string state_dir = policy::Config{}.state_dir;
  if (auto files = gateway::read_policy(path); !files) {
    problem = files.error();
  } else {
    state_dir = guess_state_dir(*files);
    auto compiled = compile_policy(std::move(*files), gateway::read_set_file);
    if (compiled) return with_members(std::move(*compiled), {});
    problem = to_text(compiled.error());
  }

  const gateway::LastGood store(state_dir);
  auto kept = store.load();
  if (!kept) return std::unexpected(problem);
  auto compiled = compile_policy(std::move(*kept));
  if (!compiled) return std::unexpected(problem);
  log_error("policy", "THE POLICY IS BROKEN; running the last good one instead",
            {{"from", store.path()}});
  return with_members(std::move(*compiled), std::move(problem));
}

void keep_as_last_good(const CompiledPolicy& policy) {
  static std::string last_said;
  static_cast<void>(
      gateway::PolicyHistory(policy.config().state_dir).record(policy_files(policy.files)));
  const auto saved =
      gateway::LastGood(policy.config().state_dir).save(without_members(policy.files));
  if (saved || saved.error() == last_said) return;
  last_said = saved.error();
  log_info("policy", "cannot keep the policy for a start with a broken one",
           {{"reason", saved.error()}});
}

}  // namespace sluice::control
