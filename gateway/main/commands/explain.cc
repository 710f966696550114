#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <iostream>
#include <optional>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "gateway/control/policy_source.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "gateway/main/compiled_policy.h"
#include "gateway/main/explain_question.h"
#include "gateway/main/logged_outcome.h"
#include "gateway/main/logged_request.h"
#include "gateway/main/table.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{
    OptionSpec{"policy", "PATH", "offline, by this file or directory; else the running sluice"},
    OptionSpec{"from", "ADDRESS",
               "the source; for a request without --to: the client; alone: what is known of it"},
    OptionSpec{"to", "ADDRESS", "the destination"},
    OptionSpec{"port", "PORT", "the destination's port; of a URL its own, else 80 or 443"},
    OptionSpec{"from-port", "PORT", "the source's port"},
    OptionSpec{"proto", "PROTOCOL", "tcp (default), udp, sctp, icmp, icmpv6 or a number"},
    OptionSpec{"direction", "DIRECTION", "ingress (default) or egress", 0, "ingress egress"},
    OptionSpec{"interface", "NAME", "where the packet is seen; left out: any"},
    OptionSpec{"way", "WAY", "local, forward or output; left out: local, then forward", 0,
               "bind local forward output"},
    OptionSpec{"cgroup", "PATH", "with --way output: of the process"},
    OptionSpec{"fragment", "", "a later fragment, which has no ports"},
    OptionSpec{"header", "'NAME: VALUE'", "of the request; may be given several times"},
    OptionSpec{"certificate-name", "NAME", "that the client has shown; several times"},
    OptionSpec{"claim", "NAME=VALUE", "what auth knows of the caller; several times"},
    OptionSpec{"listener", "NAME", "begin at this listener, whatever the packet"},
    OptionSpec{"request", "ID", "one from the access log (JSON): CONNECTION/REQUEST or request_id"},
    OptionSpec{"log", "FILE", "the access log, for --request"},
    OptionSpec{"questions", "FILE", "many: an object a line, answered by a line each; - is stdin"},
    kSocketOption,
    kOutputOption,
};

int usage(const std::string& message) {
  std::cerr << "sluice: " << message << '\n';
  return kExitUsage;
}

std::expected<std::int64_t, std::string> port_from(const std::string& text) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size() && value >= 0 && value <= 65535)
    return value;
  return std::unexpected("'" + text + "' is not a port (0 to 65535)");
}

// "https://host:8443/x" ─► 8443; without a port that of its scheme.
std::int64_t port_of_url(const std::string& url) {
  const std::size_t scheme = url.find("://");
  if (scheme == std::string::npos) return 80;
  const std::string authority =
      url.substr(scheme + 3, url.find_first_of("/?#", scheme + 3) - scheme - 3);
  const std::size_t colon = authority.rfind(':');
  if (colon != std::string::npos && authority.find(']', colon) == std::string::npos) {
    if (const auto port = port_from(authority.substr(colon + 1))) return *port;
  }
  return url.starts_with("https") ? 443 : 80;
}

std::expected<json::object, std::string> question_from(const Arguments& arguments) {
  json::object question{{"command", "explain"}};
  for (const auto& [option, key] : {std::pair{"from", "from"},
                                    {"to", "to"},
                                    {"proto", "protocol"},
                                    {"direction", "direction"},
                                    {"interface", "interface"},
                                    {"way", "way"},
                                    {"cgroup", "cgroup"},
                                    {"listener", "listener"}}) {
    if (arguments.has(option)) question[key] = arguments.get(option);
  }
  if (arguments.has("fragment")) question["fragment"] = true;
  for (const auto& [option, key] : {std::pair{"port", "to_port"}, {"from-port", "from_port"}}) {
    if (!arguments.has(option)) continue;
    const auto port = port_from(arguments.get(option));
    if (!port) return std::unexpected("--" + std::string(option) + ": " + port.error());
    question[key] = *port;
  }
  const auto& words = arguments.words();
  if (!words.empty()) {
    question["url"] = words.back();
    if (words.size() == 2) question["method"] = words.front();
    if (!question.contains("to_port")) question["to_port"] = port_of_url(words.back());
  }
  json::array headers;
  for (const std::string& header : arguments.all("header")) {
    const std::size_t colon = header.find(':');
    if (colon == std::string::npos || colon == 0)
      return std::unexpected("--header is 'NAME: VALUE', not '" + header + "'");
    std::string value = header.substr(colon + 1);
    value.erase(0, value.find_first_not_of(" \t"));
    headers.push_back(json::array{header.substr(0, colon), value});
  }
  if (!headers.empty()) question["headers"] = std::move(headers);
  json::array claims;
  for (const std::string& claim : arguments.all("claim")) {
    const std::size_t equals = claim.find('=');
    if (equals == std::string::npos || equals == 0)
      return std::unexpected("--claim is NAME=VALUE, not '" + claim + "'");
    claims.push_back(json::array{claim.substr(0, equals), claim.substr(equals + 1)});
  }
  if (!claims.empty()) question["claims"] = std::move(claims);
  json::array names;
  for (const std::string& name : arguments.all("certificate-name"))
    names.emplace_back(name);
  if (!names.empty()) question["certificate_names"] = std::move(names);
  if (question.contains("to") && !question.contains("from") && !question.contains("url"))
    return std::unexpected("a packet has --from and --to");
  if (!question.contains("from") && !question.contains("url") && !question.contains("listener"))
    return std::unexpected(kNothingToExplain);
  return question;
}

// A way from the client on needs where it comes from; a bare URL begins at the listener.
json::object settled(json::object question) {
  if (question.contains("url") && question.contains("to") && !question.contains("from"))
    question.erase("to");
  return question;
}

void show_step(const json::object& step) {
  constexpr std::size_t kPhaseWidth = 10;
  const bool bright = colours();
  std::string phase = text_at(step, "phase");
  phase.resize(std::max(phase.size(), kPhaseWidth), ' ');
  std::cout << (bright ? "\x1b[1m" : "") << phase << (bright ? "\x1b[0m" : "") << "  "
            << text_at(step, "verdict");
  if (const std::string where = text_at(step, "where"); !where.empty())
    std::cout << "  [" << where << ']';
  std::cout << '\n';
  for (const auto& value : array_at(step, "reasons")) {
    const json::object& reason = value.as_object();
    std::cout << std::string(kPhaseWidth + 4, ' ') << text_at(reason, "text");
    if (const std::string where = text_at(reason, "where"); !where.empty())
      std::cout << "  [" << where << ']';
    std::cout << '\n';
  }
}

std::string in_brackets(const std::string& where) {
  return where.empty() ? "" : "  [" + where + ']';
}

// What was decided is the last line, and what would be now stands before it.
void show_logged(const json::object& answer) {
  const json::object& now = object_at(answer, "now");
  const json::array& places = array_at(object_at(answer, "decided"), "places");
  std::cout << (text_at(now, "by") == "live" ? "\nnow: " : "\nnow, by the policy alone: ")
            << text_at(now, "outcome") << '\n';
  for (const auto& place : places)
    std::cout << "then: " << text_at(place.as_object(), "text")
              << in_brackets(text_at(place.as_object(), "where")) << '\n';
  std::cout << "\n=> " << text_at(answer, "outcome")
            << in_brackets(places.empty() ? "" : text_at(places.front().as_object(), "where"))
            << '\n';
}

void show(const json::object& answer) {
  if (const std::string note = text_at(answer, "logged"); !note.empty())
    std::cout << note << "\n\n" << (array_at(answer, "steps").empty() ? "" : "asked again now:\n");
  for (const auto& step : array_at(answer, "steps"))
    show_step(step.as_object());
  if (answer.contains("decided")) return show_logged(answer);
  std::cout << "\n=> " << text_at(answer, "outcome") << '\n';
}

// nullopt: said why.
std::optional<CompiledPolicy> policy_of(const Arguments& arguments) {
  auto files = gateway::read_policy(arguments.get("policy"));
  if (!files) {
    std::cerr << "sluice: " << files.error() << '\n';
    return std::nullopt;
  }
  auto compiled = compile_policy(std::move(*files), gateway::read_set_file);
  if (compiled) return std::move(*compiled);
  std::cerr << to_text(compiled.error()) << '\n';
  return std::nullopt;
}

json::object answer_to(const json::object& question, const CompiledPolicy& policy) {
  const auto parsed = parse_question(question);
  if (!parsed) return admin_error(parsed.error());
  return to_json(*policy.snapshot, explain(*policy.snapshot, *parsed));
}

json::object ask_live(const std::string& socket, const json::object& question) {
  const auto answer = gateway::ask_admin(socket, question, std::chrono::seconds(10));
  return answer ? *answer : admin_error(answer.error().message);
}

int answer_lines(const Arguments& arguments) {
  std::optional<CompiledPolicy> policy;
  if (arguments.has("policy") && !(policy = policy_of(arguments))) return kExitFailed;
  const std::string path = arguments.get("questions");
  std::ifstream file;
  if (path != "-") file.open(path);
  std::istream& in = path == "-" ? std::cin : file;
  if (!in) return usage(path + ": cannot be read");
  const std::string socket = gateway::admin_socket_path(arguments.get("socket"));
  bool good = true;
  for (std::string line; std::getline(in, line);) {
    boost::system::error_code error;
    const json::value parsed = json::parse(line, error);
    json::object answer = admin_error("the line is not a JSON object");
    if (!error && parsed.is_object()) {
      json::object question = parsed.as_object();
      question["command"] = "explain";
      answer = policy ? answer_to(question, *policy) : ask_live(socket, question);
    }
    good = good && answer.at("ok") == true;
    std::cout << json::serialize(answer) << '\n';
  }
  return good ? kExitOk : kExitFailed;
}

int offline(const Arguments& arguments, const json::object& question) {
  const auto compiled = policy_of(arguments);
  if (!compiled) return kExitFailed;
  const json::object& logged = object_at(question, "logged");
  if (const auto parsed = parse_question(question); !parsed && logged.empty())
    return usage(parsed.error());
  json::object answer = answer_to(question, *compiled);
  if (!logged.empty())
    answer = with_logged(std::move(answer), logged, compiled->config(), NowBy::policy);
  if (arguments.get("output") == "json") {
    std::cout << json::serialize(answer) << '\n';
  } else {
    show(answer);
  }
  return kExitOk;
}

int explain_command(const Arguments& arguments) {
  if (arguments.has("questions")) return answer_lines(arguments);
  const bool logged_one = arguments.has("request");
  auto question = logged_one
                      ? question_from_log(arguments.get("log"), arguments.get("request"))
                      : question_from(arguments);
  if (!question && logged_one) return failed(arguments, question.error());
  if (!question) return usage(question.error());
  const json::object asked = settled(std::move(*question));
  if (const auto parsed = parse_question(asked); !parsed && !logged_one)
    return usage(parsed.error());
  if (arguments.has("policy")) return offline(arguments, asked);
  return ask_and_show(arguments, asked, show);
}

}  // namespace

const Command kExplainCommand{
    .name = "explain",
    .words = "[[METHOD] URL]",
    .summary = "Why: every step that a packet or request takes, and the line that decided each.",
    .details =
        "  sluice explain --from 198.51.100.8 --to 203.0.113.1 --port 23 --policy policy.yaml\n"
        "  sluice explain --from 10.1.2.3 --to 203.0.113.1 GET https://api.example/v1 "
        "--header 'x-canary: 1'\n"
        "  sluice explain --request 17/3 --log /var/log/sluice/access.log\n"
        "  sluice explain --from 198.51.100.8\n\n"
        "--questions takes what the admin socket takes: {\"from\": …, \"to\": …, \"port\": …, "
        "\"url\": …}.\n"
        "The matchers that decide are the ones that run. With --policy by the file alone; without, "
        "by what runs:\nbans, the node's own addresses, endpoints' health and limits as they are "
        "at "
        "this moment. Takes nothing\nfrom a limit and sends no packet. Of a request of the log the "
        "last line is what was decided then, with the line\nof the policy that is named there; "
        "what "
        "would be decided now stands before it, as far as the log tells.",
    .options = kOptions,
    .max_words = 2,
    .run = explain_command,
};

}  // namespace sluice::control
