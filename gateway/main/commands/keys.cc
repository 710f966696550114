// sluice keys: virtual keys for callers of language models. Works on the file alone, so that it
// needs no running sluice; those that run read it again.
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <iostream>
#include <openssl/rand.h>
#include <sys/file.h>
#include <thread>
#include <unistd.h>

#include <boost/json.hpp>

#include "gateway/ai/proxy/budgets.h"
#include "gateway/ai/proxy/virtual_keys.h"
#include "gateway/control/state_file.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ai_policy.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"
#include "kernel/keeper_protocol.h"
#include "policy/schema/ai_controls.h"
#include "policy/units.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::ai::VirtualKey;
using Keys = std::vector<VirtualKey>;

constexpr std::size_t kMaxFile = 8UL << 20;

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH",
               "whose key_file it is: a file or a directory, default /etc/sluice"},
    OptionSpec{"file", "PATH", "the file itself, instead of a policy"},
    OptionSpec{"name", "NAME", "of create: what people, logs and metrics call it"},
    OptionSpec{"owner", "TEXT", "of create: whose it is"},
    OptionSpec{"team", "NAME", "of create: for limits and usage by team"},
    OptionSpec{"models", "LIST", "of create: what it may ask for, as gpt-5,claude-*; default all"},
    OptionSpec{"expires", "DURATION", "of create: after 12h, 30d; default never"},
    OptionSpec{"requests-per-minute", "N", "of create: default no limit"},
    OptionSpec{"tokens-per-minute", "N", "of create: of questions and answers; default no limit"},
    OptionSpec{"tokens-per-day", "N", "of create: the same over a day"},
    OptionSpec{"budget", "DOLLARS", "of create: what its calls may cost; default no budget"},
    OptionSpec{"budget-period", "PERIOD", "of create: in what time, default month", 0,
               "hour day week month"},
    kOutputOption,
};

int usage(const std::string& message) {
  std::cerr << "sluice: " << message << "\n`sluice keys --help` tells more.\n";
  return kExitUsage;
}

std::int64_t now() {
  return static_cast<std::int64_t>(std::time(nullptr));
}

std::string day_of(std::int64_t seconds) {
  if (seconds == 0) return "-";
  const std::time_t time = seconds;
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%MZ", &parts);
  return text.data();
}

std::expected<std::string, std::string> key_file(const Arguments& arguments) {
  if (arguments.has("file")) return arguments.get("file");
  const auto ai = ai_of_policy(arguments, "it has no virtual keys");
  if (!ai) return std::unexpected(ai.error());
  if (ai->keys == policy::AiKeys::none)
    return std::unexpected("the policy says `keys: none`: callers need no key");
  return ai->key_file;
}

// Held while the file is read and replaced, so that of two who change it neither is lost.
class Lock {
 public:
  explicit Lock(const std::string& path)
      : fd_(::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) {
    if (fd_) ::flock(fd_.get(), LOCK_EX);
  }

 private:
  kernel::protocol::OwnedFd fd_;
};

std::expected<Keys, std::string> load(const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path();
  if (!directory.empty() && ::access(directory.c_str(), F_OK) != 0 && errno == ENOENT)
    return std::unexpected("there is no directory " + directory);
  auto bytes = gateway::read_state_file(path, kMaxFile);
  if (!bytes) return std::unexpected(bytes.error());
  auto keys = gateway::ai::parse_keys(bytes->value_or(""));
  if (!keys) return std::unexpected(path + ": " + keys.error());
  return keys;
}

// 256 bits, in letters and digits alone, so that it can be selected with a double click.
std::string random_text(std::size_t bytes, std::string_view digits) {
  std::string text;
  std::vector<unsigned char> random(bytes);
  RAND_bytes(random.data(), static_cast<int>(random.size()));
  for (const unsigned char byte : random)
    text.push_back(digits[byte % digits.size()]);
  return text;
}

bool take_number(const Arguments& arguments, std::string_view option, std::uint64_t& out) {
  if (!arguments.has(option)) return true;
  const std::string text = arguments.get(option);
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc{} && read.ptr == text.data() + text.size() && out > 0 &&
         out <= 1'000'000'000'000;
}

// US dollars for each period.
bool take_budget(const Arguments& arguments, VirtualKey& key) {
  if (arguments.has("budget")) {
    const auto dollars = policy::parse_number(arguments.get("budget"));
    if (!dollars || *dollars <= 0 || *dollars > 1e9) return false;
    key.budget = std::llround(*dollars * 1e6);
    if (key.budget == 0) return false;
  }
  if (!arguments.has("budget-period")) return true;
  const auto period =
      std::ranges::find(policy::kAiPeriodWords, arguments.get("budget-period"));
  if (period == policy::kAiPeriodWords.end() || key.budget == 0) return false;
  key.period = static_cast<policy::AiPeriod>(period - policy::kAiPeriodWords.begin());
  return true;
}

std::string_view period_word(const VirtualKey& key) {
  return policy::kAiPeriodWords[static_cast<std::size_t>(key.period)];
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    if (end > at) parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::expected<VirtualKey, std::string> wanted(const Arguments& arguments) {
  VirtualKey key;
  key.name = arguments.get("name");
  if (key.name.empty()) return std::unexpected("keys create needs --name");
  key.owner = arguments.get("owner");
  key.team = arguments.get("team");
  for (const std::string* text : {&key.name, &key.owner, &key.team}) {
    const bool plain = std::ranges::all_of(
        *text, [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
    if (!plain || text->size() > 200) return std::unexpected("names are plain text of 200 bytes");
  }
  key.models = split(arguments.get("models"));
  key.created = now();
  if (arguments.has("expires")) {
    const auto seconds = parse_seconds(arguments.get("expires"));
    if (!seconds) return std::unexpected("--expires is a duration, such as 12h or 30d");
    key.expires = key.created + *seconds;
  }
  for (const auto& [option, place] : {std::pair{"requests-per-minute", &key.requests_per_minute},
                                      std::pair{"tokens-per-minute", &key.tokens_per_minute},
                                      std::pair{"tokens-per-day", &key.tokens_per_day}}) {
    if (!take_number(arguments, option, *place))
      return std::unexpected("--" + std::string(option) + " is a number from 1 on");
  }
  if (!take_budget(arguments, key))
    return std::unexpected(
        "--budget is US dollars, such as 25 or 0.5, and --budget-period hour, day, week or month");
  return key;
}

// Running gateways hear of the file's change, and read it, in some 50 ms. Who shows a key as soon
// as it is printed, as a script does, shall be known there.
void let_gateways_read() {
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

std::expected<void, std::string> add(const std::string& path, const VirtualKey& key) {
  const Lock lock(path);
  auto keys = load(path);
  if (!keys) return std::unexpected(keys.error());
  if (std::ranges::find(*keys, key.name, &VirtualKey::name) != keys->end())
    return std::unexpected("there is a key named " + key.name + " already");
  keys->push_back(key);
  return gateway::write_state_file(path, gateway::ai::write_keys(*keys));
}

int create(const Arguments& arguments, const std::string& path) {
  auto key = wanted(arguments);
  if (!key) return usage(key.error());
  const std::string shown =
      std::string(gateway::ai::kVirtualKeyPrefix) +
      random_text(48, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
  key->sha256 = gateway::ai::hash_of_key(shown);
  key->id = "k" + random_text(8, "0123456789abcdefghjkmnpqrstvwxyz");
  if (const auto added = add(path, *key); !added) return failed(arguments, added.error());
  let_gateways_read();
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(json::object{{"id", key->id}, {"name", key->name}, {"key", shown}})
              << '\n';
  } else {
    std::cout << shown << '\n';
    std::cerr << "key " << key->id << " for " << key->name
              << "; it is not kept anywhere, and is not shown again\n";
  }
  return kExitOk;
}

std::string limits_of(const VirtualKey& key) {
  std::string text;
  const auto add = [&](std::uint64_t value, std::string_view unit) {
    if (value > 0)
      text += (text.empty() ? "" : ", ") + std::to_string(value) + " " + std::string(unit);
  };
  add(key.requests_per_minute, "requests/m");
  add(key.tokens_per_minute, "tokens/m");
  add(key.tokens_per_day, "tokens/d");
  if (key.budget > 0) {
    text += (text.empty() ? "" : ", ") + gateway::ai::dollars_text(key.budget) + "/" +
            std::string(period_word(key));
  }
  return text.empty() ? "-" : text;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts)
    text += (text.empty() ? "" : ",") + part;
  return text.empty() ? "*" : text;
}

json::object to_json(const VirtualKey& key) {
  json::object out{{"id", key.id},
                   {"name", key.name},
                   {"owner", key.owner},
                   {"team", key.team},
                   {"models", json::array(key.models.begin(), key.models.end())},
                   {"created", key.created},
                   {"expired", key.expires > 0 && key.expires <= now()}};
  out["expires"] = key.expires > 0 ? json::value(key.expires) : json::value(nullptr);
  const auto count = [&](std::string_view name, std::uint64_t value) {
    out[name] = value > 0 ? json::value(value) : json::value(nullptr);
  };
  count("requests_per_minute", key.requests_per_minute);
  count("tokens_per_minute", key.tokens_per_minute);
  count("tokens_per_day", key.tokens_per_day);
  const bool budget = key.budget > 0;
  out["budget_dollars"] =
      budget ? json::value(static_cast<double>(key.budget) / 1e6) : json::value(nullptr);
  out["budget_period"] = budget ? json::value(period_word(key)) : json::value(nullptr);
  return out;
}

int list(const Arguments& arguments, const std::string& path) {
  const auto keys = load(path);
  if (!keys) return failed(arguments, keys.error());
  if (arguments.get("output") == "json") {
    json::array all;
    for (const VirtualKey& key : *keys)
      all.push_back(to_json(key));
    std::cout << json::serialize(json::object{{"keys", std::move(all)}}) << '\n';
    return kExitOk;
  }
  if (keys->empty()) std::cout << path << ": no keys\n";
  Table table({"ID", "NAME", "OWNER", "TEAM", "EXPIRES", "LIMITS", "MODELS"});
  for (const VirtualKey& key : *keys) {
    const bool expired = key.expires > 0 && key.expires <= now();
    table.add({key.id, key.name, key.owner.empty() ? "-" : key.owner,
               key.team.empty() ? "-" : key.team, expired ? "expired" : day_of(key.expires),
               limits_of(key), joined(key.models)});
  }
  if (!table.empty()) table.print();
  return kExitOk;
}

int revoke(const Arguments& arguments, const std::string& path) {
  const Lock lock(path);
  auto keys = load(path);
  if (!keys) return failed(arguments, keys.error());
  for (std::size_t i = 1; i < arguments.words().size(); ++i) {
    const std::string& word = arguments.words()[i];
    const auto gone = std::erase_if(
        *keys, [&](const VirtualKey& key) { return key.id == word || key.name == word; });
    if (gone == 0) return failed(arguments, "there is no key with the id or name " + word);
  }
  if (const auto saved = gateway::write_state_file(path, gateway::ai::write_keys(*keys)); !saved)
    return failed(arguments, saved.error());
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(json::object{{"ok", true}}) << '\n';
  } else {
    std::cout << "revoked; running gateways know it within a second\n";
  }
  return kExitOk;
}

int keys(const Arguments& arguments) {
  const std::string& action = arguments.words()[0];
  const std::size_t words = arguments.words().size();
  if (action != "create" && action != "list" && action != "revoke")
    return usage("'" + action + "' is not create, list or revoke");
  if (action == "revoke" ? words < 2 : words > 1)
    return usage(action == "revoke" ? "keys revoke needs an id or a name"
                                    : "keys " + action + " takes no further word");
  const auto path = key_file(arguments);
  if (!path) return failed(arguments, path.error());
  if (action == "create") return create(arguments, *path);
  return action == "list" ? list(arguments, *path) : revoke(arguments, *path);
}

}  // namespace

const Command kKeysCommand{
    .name = "keys",
    .words = "create|list|revoke [ID|NAME...]",
    .summary = "Make, list and revoke virtual keys for callers of language models.",
    .details =
        "  sluice keys create --name alice --team search --models 'gpt-*' --tokens-per-day "
        "1000000\n"
        "  sluice keys list\n"
        "  sluice keys revoke alice\n\n"
        "Callers show the key where their SDK puts the vendor's. The file holds hashes, so a key "
        "is shown once.\nNeeds no running sluice; those that run take changes up within a second, "
        "on every node that shares the file.",
    .options = kOptions,
    .min_words = 1,
    .max_words = 101,
    .run = keys,
    .first_words = "create list revoke",
};

}  // namespace sluice::control
