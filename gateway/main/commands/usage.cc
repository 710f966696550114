// sluice usage: what calls of language models took and cost, from the gateway's file. Reads the file
// alone, so that it needs no running sluice.
#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <iostream>
#include <map>

#include <boost/json.hpp>

#include "gateway/ai/proxy/budgets.h"
#include "gateway/ai/proxy/calendar.h"
#include "gateway/ai/proxy/usage_file.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ai_policy.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::ai::UsageCounts;
using gateway::ai::UsageFile;
using gateway::ai::UsageKey;

constexpr long kDay = 24L * 3600;
constexpr long kUsualDays = 30;

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH", "whose usage it is: a file or a directory, default /etc/sluice"},
    OptionSpec{"file", "PATH", "the file of usage itself, instead of a policy"},
    OptionSpec{"by", "LIST", "what has a line each, of day,key,owner,team,provider,model; default day,key"},
    OptionSpec{"since", "WHEN", "the first day: 2026-11-01, or so long ago: 7d; default 30d"},
    OptionSpec{"until", "DATE", "the last day, included; default today"},
    OptionSpec{"output", "FORMAT", "table (default), csv or json", 0, "table csv json"},
};

int misused(const std::string& message) {
  std::cerr << "sluice: " << message << "\n`sluice usage --help` tells more.\n";
  return kExitUsage;
}

// --- what has a line each ------------------------------------------------------------------------

struct Dimension {
  std::string_view name;
  std::string (*of)(const UsageKey& key, const UsageCounts& counts);
};
constexpr std::array<Dimension, 6> kDimensions{{
    {"day", [](const UsageKey& key, const UsageCounts&) { return key.day; }},
    {"key", [](const UsageKey& key, const UsageCounts&) { return key.key; }},
    {"owner", [](const UsageKey&, const UsageCounts& counts) { return counts.owner; }},
    {"team", [](const UsageKey& key, const UsageCounts&) { return key.team; }},
    {"provider", [](const UsageKey& key, const UsageCounts&) { return key.provider; }},
    {"model", [](const UsageKey& key, const UsageCounts&) { return key.model; }},
}};

std::optional<std::vector<const Dimension*>> dimensions(const std::string& list) {
  std::vector<const Dimension*> out;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    const auto found =
        std::ranges::find(kDimensions, std::string_view(list).substr(at, end - at),
                          &Dimension::name);
    if (found == kDimensions.end()) return std::nullopt;
    out.push_back(&*found);
    at = end + 1;
  }
  return out;
}

using Lines = std::map<std::vector<std::string>, UsageCounts>;

Lines sum(const std::vector<std::pair<UsageKey, UsageCounts>>& rows,
          const std::vector<const Dimension*>& by) {
  Lines lines;
  for (const auto& [key, counts] : rows) {
    std::vector<std::string> names;
    for (const Dimension* dimension : by)
      names.push_back(dimension->of(key, counts));
    lines[std::move(names)] += counts;
  }
  return lines;
}

// --- how they are shown --------------------------------------------------------------------------

struct Number {
  std::string_view name;
  std::int64_t UsageCounts::*field;
};
constexpr std::array<Number, 9> kNumbers{{{"requests", &UsageCounts::requests},
                                          {"errors", &UsageCounts::errors},
                                          {"cache_hits", &UsageCounts::cache_hits},
                                          {"input", &UsageCounts::input},
                                          {"cache_read", &UsageCounts::cache_read},
                                          {"cache_write", &UsageCounts::cache_write},
                                          {"output", &UsageCounts::output},
                                          {"reasoning", &UsageCounts::reasoning},
                                          {"unpriced", &UsageCounts::unpriced}}};

std::string dollars(std::int64_t micros) {
  const std::string fraction = std::to_string(1'000'000 + micros % 1'000'000);
  return std::to_string(micros / 1'000'000) + "." + fraction.substr(1);
}

// RFC 4180. What a spreadsheet would take for a formula is a name that somebody chose.
std::string csv(std::string text) {
  if (!text.empty() && std::string_view("=+-@\t\r").contains(text.front())) text.insert(0, "'");
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text)
    out.append(c == '"' ? 2 : 1, c);
  return out + '"';
}

void show_csv(const Lines& lines, const std::vector<const Dimension*>& by) {
  for (const Dimension* dimension : by)
    std::cout << dimension->name << ',';
  for (const Number& number : kNumbers)
    std::cout << number.name << ',';
  std::cout << "dollars\n";
  for (const auto& [names, counts] : lines) {
    for (const std::string& name : names)
      std::cout << csv(name) << ',';
    for (const Number& number : kNumbers)
      std::cout << counts.*number.field << ',';
    std::cout << dollars(counts.micros) << '\n';
  }
}

json::object to_json(const UsageCounts& counts) {
  json::object out;
  for (const Number& number : kNumbers)
    out[number.name] = counts.*number.field;
  out["dollars"] = static_cast<double>(counts.micros) / 1e6;
  return out;
}

void show_json(const Lines& lines, const std::vector<const Dimension*>& by) {
  json::array all;
  UsageCounts total;
  for (const auto& [names, counts] : lines) {
    json::object line;
    for (std::size_t i = 0; i < by.size(); ++i)
      line[by[i]->name] = names[i];
    for (auto& member : to_json(counts))
      line.insert(std::move(member));
    all.push_back(std::move(line));
    total += counts;
  }
  std::cout << json::serialize(json::object{{"usage", std::move(all)}, {"total", to_json(total)}})
            << '\n';
}

std::vector<std::string> columns(const UsageCounts& counts) {
  const std::int64_t input = counts.input + counts.cache_read + counts.cache_write;
  return {std::to_string(counts.requests), std::to_string(counts.errors),
          std::to_string(input), std::to_string(counts.cache_read),
          std::to_string(counts.output),
          gateway::ai::dollars_text(counts.micros) + (counts.unpriced > 0 ? " *" : "")};
}

void show_table(const Lines& lines, const std::vector<const Dimension*>& by) {
  std::vector<std::string> heads;
  for (const Dimension* dimension : by) {
    std::string head(dimension->name);
    std::ranges::transform(head, head.begin(), [](char c) { return static_cast<char>(c - 32); });
    heads.push_back(std::move(head));
  }
  heads.insert(heads.end(), {"REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "COST"});
  Table table(heads);
  UsageCounts total;
  const auto add = [&](std::vector<std::string> names, const UsageCounts& counts) {
    for (std::string& name : names)
      if (name.empty()) name = "-";
    for (std::string& text : columns(counts))
      names.push_back(std::move(text));
    table.add(std::move(names));
  };
  for (const auto& [names, counts] : lines) {
    add(names, counts);
    total += counts;
  }
  std::vector<std::string> last(by.size(), " ");
  last.front() = "total";
  add(std::move(last), total);
  table.print();
  if (total.unpriced > 0)
    std::cout << "* without " << total.unpriced << " requests that `prices` has no price for\n";
}

// --- which ---------------------------------------------------------------------------------------

std::expected<std::string, std::string> usage_file(const Arguments& arguments) {
  if (arguments.has("file")) return arguments.get("file");
  const auto ai = ai_of_policy(arguments, "there is no usage");
  if (!ai) return std::unexpected(ai.error());
  return ai->usage.file;
}

// A day that there is.
bool is_date(const std::string& text) {
  std::tm parts{};
  if (text.size() != 10 || ::strptime(text.c_str(), "%Y-%m-%d", &parts) == nullptr) return false;
  return gateway::ai::day_text(::timegm(&parts)) == text;
}

// A date, or so long ago.
std::optional<std::string> first_day(const std::string& text) {
  if (is_date(text)) return text;
  const auto seconds = parse_seconds(text);
  if (!seconds) return std::nullopt;
  // `1d` is today alone.
  const long back = std::max(0L, (*seconds + kDay - 1) / kDay - 1);
  return gateway::ai::day_text(std::time(nullptr) - back * kDay);
}

int usage(const Arguments& arguments) {
  const auto by = dimensions(arguments.get("by", "day,key"));
  if (!by) return misused("--by is a list of day, key, owner, team, provider and model");
  const auto since =
      first_day(arguments.get("since", std::to_string(kUsualDays) + "d"));
  if (!since) return misused("--since is a date such as 2026-11-01, or a duration such as 7d");
  const std::string until = arguments.get("until");
  if (!until.empty() && !is_date(until)) return misused("--until is a date such as 2026-11-30");
  const auto path = usage_file(arguments);
  if (!path) return failed(arguments, path.error());
  auto file = UsageFile::open_to_read(*path);
  if (!file) return failed(arguments, file.error());
  const auto rows = file->rows(*since, until);
  if (!rows) return failed(arguments, rows.error());
  const Lines lines = sum(*rows, *by);
  const std::string output = arguments.get("output", "table");
  if (output == "json") {
    show_json(lines, *by);
  } else if (output == "csv") {
    show_csv(lines, *by);
  } else if (lines.empty()) {
    std::cout << *path << ": no calls since " << *since << '\n';
  } else {
    show_table(lines, *by);
  }
  return kExitOk;
}

}  // namespace

const Command kUsageCommand{
    .name = "usage",
    .words = "",
    .summary = "What calls of language models took and cost, by day, key, team and model.",
    .details =
        "  sluice usage --by team,model --since 2026-11-01\n"
        "  sluice usage --by day --since 7d --output csv\n\n"
        "Tokens are counted once: INPUT has what was read from a vendor's cache (CACHED) too, "
        "OUTPUT has reasoning. Days are UTC. Calls that just ended are there within a second or "
        "two.\nNeeds no running sluice, but the right to read the file.",
    .options = kOptions,
    .run = usage,
};

}  // namespace sluice::control
