#include <array>
#include <charconv>
#include <iostream>

#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"

namespace sluice::control {
namespace {

namespace json = boost::json;

constexpr std::array kOptions{kSocketOption, kOutputOption};

int usage(const char* message) {
  std::cerr << "sluice: " << message << '\n';
  return kExitUsage;
}

void show(const json::object& answer) {
  const std::string action = text_at(answer, "action");
  const std::string endpoint = text_at(answer, "endpoint");
  std::cout << "upstream " << text_at(answer, "upstream") << ", "
            << (endpoint.empty() ? "every endpoint" : endpoint) << ": ";
  if (action == "drain") std::cout << "gets no new requests; those under way finish\n";
  if (action == "ready") std::cout << "serves again, with the policy's weight\n";
  if (action == "weight") std::cout << "weight " << count_at(answer, "weight") << '\n';
}

int upstream(const Arguments& arguments) {
  const auto& words = arguments.words();
  const std::string& action = words[0];
  json::object request{{"command", "upstream"}, {"action", action}, {"upstream", words[1]}};
  if (words.size() > 2) request["endpoint"] = words[2];
  if (action != "weight") {
    if (words.size() > 3) return usage("drain and ready take an upstream and perhaps an endpoint");
    return ask_and_show(arguments, request, show);
  }
  if (words.size() != 4) return usage("weight takes an upstream, an endpoint and a number");
  std::int64_t weight = -1;
  const std::string& text = words[3];
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), weight);
  if (error != std::errc{} || end != text.data() + text.size() || weight < 0 || weight > 1000)
    return usage("a weight is 0 to 1000");
  request["weight"] = weight;
  return ask_and_show(arguments, request, show);
}

}  // namespace

const Command kUpstreamCommand{
    .name = "upstream",
    .words = "drain|ready|weight UPSTREAM [ENDPOINT [WEIGHT]]",
    .summary = "Take an upstream's endpoints out, back in, or give one another weight.",
    .details =
        "  drain UPSTREAM [ENDPOINT]         no new requests; those under way finish\n"
        "  ready UPSTREAM [ENDPOINT]         serves again, with the policy's weight\n"
        "  weight UPSTREAM ENDPOINT WEIGHT   0 to 1000, instead of the policy's\n\n"
        "ENDPOINT as `sluice status` shows it (10.0.0.1:80); left out: every one. Holds over reloads "
        "and over a\ngateway that is replaced, until `ready` or the end of sluice.",
    .options = kOptions,
    .min_words = 2,
    .max_words = 4,
    .run = upstream,
    .first_words = "drain ready weight",
};

}  // namespace sluice::control
