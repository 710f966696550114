#include "kernel/doctor.h"

#include <array>
#include <filesystem>
#include <iostream>

#include "gateway/control/policy_source.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/compiled_policy.h"
#include "gateway/main/kernel_plan.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using Level = kernel::Finding::Level;

constexpr int kExitProblem = 3;
constexpr std::array<const char*, 4> kLevelWords{"good", "note", "warning", "problem"};
constexpr std::array<const char*, 4> kColours{"\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m"};

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH",
               "what is to run here, default /etc/sluice; without it, in general"},
    OptionSpec{"all", "", "also what was looked at and is good"},
    kPinRootOption,
    kOutputOption,
};

// nullopt: said why on standard error.
std::optional<kernel::DoctorOptions> options_from(const Arguments& arguments) {
  kernel::DoctorOptions options;
  options.pin_root = arguments.get("pin-root", options.pin_root);
  const std::string path = arguments.get("policy", "/etc/sluice");
  std::error_code error;
  if (!arguments.has("policy") && !std::filesystem::exists(path, error)) return options;
  auto files = gateway::read_policy(path);
  if (!files) {
    std::cerr << "sluice: " << files.error() << '\n';
    return arguments.has("policy") ? std::nullopt : std::optional(options);
  }
  const auto compiled = compile_policy(std::move(*files), gateway::read_set_file);
  if (!compiled) {
    std::cerr << to_text(compiled.error()) << '\n';
    return std::nullopt;
  }
  options.plan = make_kernel_plan(compiled->config(), 1, 1);
  return options;
}

void print(const std::vector<kernel::Finding>& findings, bool all) {
  std::size_t good = 0;
  for (const auto& finding : findings) {
    const auto level = static_cast<std::size_t>(finding.level);
    good += finding.level == Level::good ? 1 : 0;
    if (finding.level == Level::good && !all) continue;
    std::string word = kLevelWords[level];
    word.resize(9, ' ');
    std::cout << (colours() ? kColours[level] : "") << word << (colours() ? "\x1b[0m" : "")
              << finding.check << ": " << finding.what << '\n';
    if (!finding.advice.empty()) std::cout << "         do: " << finding.advice << '\n';
  }
  if (!all) std::cout << good << " checks found nothing (--all shows them)\n";
}

int doctor(const Arguments& arguments) {
  const auto options = options_from(arguments);
  if (!options) return kExitFailed;
  const auto findings = kernel::examine_node(*options);
  bool problem = false;
  json::array list;
  for (const auto& finding : findings) {
    problem = problem || finding.level == Level::problem;
    list.push_back(json::object{{"check", finding.check},
                                {"level", kLevelWords[static_cast<std::size_t>(finding.level)]},
                                {"what", finding.what},
                                {"advice", finding.advice}});
  }
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(json::object{{"ok", !problem}, {"findings", std::move(list)}})
              << '\n';
  } else {
    print(findings, arguments.has("all"));
  }
  return problem ? kExitProblem : kExitOk;
}

}  // namespace

const Command kDoctorCommand{
    .name = "doctor",
    .words = "",
    .summary = "What on this node will bite, and what to do about each.",
    .details =
        "Sysctls (rp_filter, src_valid_mark, br_netfilter, ip_forward, tcp_syncookies, conntrack), "
        "mark bits and\nrouting tables of others, CNI plugins, other TC, XDP and sk_lookup "
        "programs in their order, capabilities,\nBTF, bpffs, MTU and XDP mode, open descriptors, "
        "cgroups that the policy names. Of this network\nnamespace; changes nothing.",
    .options = kOptions,
    .run = doctor,
    .exit_codes = "3 something that the policy asks for will not work",
};

}  // namespace sluice::control
