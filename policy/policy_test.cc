#include "policy/policy_test.h"

#include <algorithm>
#include <array>
#include <span>

#include <yaml-cpp/yaml.h>

#include "policy/nearest_name.h"
#include "policy/units.h"

namespace sluice::policy {

namespace {

constexpr std::array<std::string_view, 5> kVerdictWords{"pass", "drop", "caught", "forward",
                                                        "refuse"};
constexpr std::array<std::string_view, kWays> kWayWords{"bind", "local", "forward", "output"};
constexpr std::size_t kMostTests = 100'000;

// One file on its way: nodes in, tests and errors out.
class Reader {
 public:
  Reader(const std::string& file, PolicyTests& out) : file_(file), out_(out) {}

  void file(const YAML::Node& root) {
    if (!is_map(root, "the file")) return;
    std::vector<IpAddress> node;
    for (const auto& entry : root) {
      const std::string key = entry.first.Scalar();
      if (key == "node") {
        node = addresses(entry.second);
      } else if (key == "policy") {
        out_.policy = text(entry.second);
      } else if (key != "tests") {
        unknown(entry.first, key, {"policy", "node", "tests"});
      }
    }
    const YAML::Node tests = root["tests"];
    if (!tests.IsDefined() || !tests.IsSequence())
      return error(root, "there is no list `tests`", "tests: [{ packet: …, expect: … }]");
    if (tests.size() > kMostTests) return error(tests, "too many tests", "at most 100,000 a file");
    for (const YAML::Node& entry : tests) {
      PolicyTest test = one(entry);
      test.node_addresses = node;
      if (test.name.empty()) test.name = "test " + std::to_string(out_.tests.size() + 1);
      out_.tests.push_back(std::move(test));
    }
  }

  void error(const YAML::Node& at, std::string message, std::string hint = {}) {
    out_.errors.push_back({Diagnostic::Severity::error, place(at), std::move(message),
                           std::move(hint)});
  }

 private:
  Location place(const YAML::Node& node) const {
    return {file_, node.Mark().line + 1, node.Mark().column + 1};
  }
  bool is_map(const YAML::Node& node, const std::string& what) {
    if (node.IsMap()) return true;
    error(node, what + " is not a map");
    return false;
  }
  void unknown(const YAML::Node& at, const std::string& key,
               const std::vector<std::string_view>& known) {
    error(at, "unknown key `" + key + "`", suggestion(key, known));
  }
  std::string text(const YAML::Node& node) {
    if (node.IsScalar()) return node.Scalar();
    error(node, "a text is wanted here");
    return {};
  }
  template <typename T, typename Parse>
  T value(const YAML::Node& node, Parse parse, const char* right, T otherwise = {}) {
    const std::string word = text(node);
    const auto parsed = parse(word);
    if (parsed) return static_cast<T>(*parsed);
    error(node, "`" + word + "` is not " + right);
    return otherwise;
  }
  template <typename Word, std::size_t N>
  std::optional<Word> word_in(const YAML::Node& node, const std::array<std::string_view, N>& words) {
    const std::string given = text(node);
    const auto found = std::ranges::find(words, given);
    if (found != words.end()) return static_cast<Word>(found - words.begin());
    std::string all;
    for (const auto word : words)
      all += (all.empty() ? "" : ", ") + std::string(word);
    error(node, "`" + given + "` is none of " + all);
    return std::nullopt;
  }
  IpAddress address(const YAML::Node& node) {
    return value<IpAddress>(node, IpAddress::parse, "an address");
  }
  std::uint16_t port(const YAML::Node& node) {
    const auto parse = [](const std::string& word) -> std::optional<std::int64_t> {
      const auto number = parse_integer(word);
      return number && *number <= 65535 ? number : std::nullopt;
    };
    return value<std::uint16_t>(node, parse, "a port, 0 to 65535");
  }
  std::vector<IpAddress> addresses(const YAML::Node& node) {
    std::vector<IpAddress> out;
    const YAML::Node list = node.IsMap() ? node["addresses"] : node;
    if (!list.IsDefined() || !list.IsSequence()) {
      error(node, "`node` has no list of addresses", "node: { addresses: [192.0.2.1] }");
      return out;
    }
    for (const YAML::Node& entry : list)
      out.push_back(address(entry));
    return out;
  }

  PolicyTest one(const YAML::Node& node) {
    PolicyTest test;
    test.where = place(node);
    if (!is_map(node, "a test")) return test;
    bool expects = false;
    for (const auto& entry : node) {
      const std::string key = entry.first.Scalar();
      if (key == "name") {
        test.name = text(entry.second);
      } else if (key == "packet") {
        test.packet = packet(entry.second);
      } else if (key == "request") {
        test.request = request(entry.second);
      } else if (key == "expect") {
        expects = true;
        expect(entry.second, test);
      } else {
        unknown(entry.first, key, {"name", "packet", "request", "expect"});
      }
    }
    if (!test.packet && !test.request) error(node, "the test sends nothing", "packet: or request:");
    if (!expects) error(node, "the test expects nothing", "expect: { verdict: drop, guard: RULE }");
    return test;
  }

  PacketDescription packet(const YAML::Node& node) {
    PacketDescription packet;
    if (!is_map(node, "packet")) return packet;
    const std::size_t errors = out_.errors.size();
    bool from = false;
    bool to = false;
    for (const auto& [key_node, given] : pairs(node)) {
      const std::string key = key_node.Scalar();
      if (key == "from") {
        packet.from = address(given);
        from = true;
      } else if (key == "to") {
        packet.to = address(given);
        to = true;
      } else if (key == "from_port") {
        packet.from_port = port(given);
      } else if (key == "to_port") {
        packet.to_port = port(given);
      } else if (key == "protocol") {
        packet.protocol = value<std::uint8_t>(given, parse_ip_protocol, "a protocol", 6);
      } else if (key == "interface") {
        packet.interface = text(given);
      } else if (key == "cgroup") {
        packet.cgroup = text(given);
      } else if (key == "fragment") {
        packet.first_fragment = !value<bool>(given, parse_boolean, "true or false");
      } else if (key == "way") {
        packet.way = word_in<Way>(given, kWayWords);
      } else if (key == "direction") {
        const std::array<std::string_view, 2> words{"ingress", "egress"};
        packet.direction = word_in<PacketDirection>(given, words).value_or(PacketDirection::ingress);
      } else {
        unknown(key_node, key,
                {"from", "to", "from_port", "to_port", "protocol", "interface", "cgroup",
                 "fragment", "way", "direction"});
      }
    }
    if (!from || !to) error(node, "a packet has `from` and `to`");
    if (from && to && errors == out_.errors.size() && packet.from.is_v4() != packet.to.is_v4())
      error(node, "`from` and `to` are of two IP versions");
    return packet;
  }

  RequestDescription request(const YAML::Node& node) {
    RequestDescription request;
    request.target = "/";
    if (!is_map(node, "request")) return request;
    for (const auto& [key_node, given] : pairs(node)) {
      const std::string key = key_node.Scalar();
      if (key == "listener") {
        request.listener = text(given);
      } else if (key == "way") {
        request.way = word_in<Way>(given, kWayWords).value_or(Way::bind);
      } else if (key == "client") {
        request.client = address(given);
      } else if (key == "destination") {
        request.destination =
            value<SocketAddress>(given, SocketAddress::parse, "an address and a port");
      } else if (key == "method") {
        request.method = text(given);
      } else if (key == "host") {
        request.host = text(given);
      } else if (key == "path") {
        request.target = text(given);
      } else if (key == "headers") {
        headers(given, request);
      } else {
        unknown(key_node, key,
                {"listener", "way", "client", "destination", "method", "host", "path", "headers"});
      }
    }
    return request;
  }

  void headers(const YAML::Node& node, RequestDescription& request) {
    if (!is_map(node, "headers")) return;
    for (const auto& [name, given] : pairs(node)) {
      request.headers.emplace_back(name.Scalar(), text(given));
      if (request.host.empty() && (name.Scalar() == "host" || name.Scalar() == "Host"))
        request.host = given.Scalar();
    }
  }

  void expect(const YAML::Node& node, PolicyTest& test) {
    if (!is_map(node, "expect")) return;
    static const std::vector<std::string_view> kPhases{
        "guard", "intercept", "listener", "access", "route", "limits", "upstream"};
    for (const auto& [key_node, given] : pairs(node)) {
      const std::string key = key_node.Scalar();
      if (key == "verdict") {
        test.verdict = word_in<Verdict>(given, kVerdictWords);
      } else if (key == "status") {
        test.status = value<int>(given, parse_integer, "a status");
      } else if (std::ranges::find(kPhases, key) != kPhases.end()) {
        test.by.emplace_back(key, given.IsNull() ? std::string() : text(given));
      } else {
        std::vector<std::string_view> known{"verdict", "status"};
        known.insert(known.end(), kPhases.begin(), kPhases.end());
        unknown(key_node, key, known);
      }
    }
  }

  static std::vector<std::pair<YAML::Node, YAML::Node>> pairs(const YAML::Node& node) {
    std::vector<std::pair<YAML::Node, YAML::Node>> out;
    for (const auto& entry : node)
      out.emplace_back(entry.first, entry.second);
    return out;
  }

  const std::string& file_;
  PolicyTests& out_;
};

std::string by_name(const Explanation& explanation, const std::string& phase) {
  const Step* step = explanation.find(phase);
  return step == nullptr ? std::string() : step->name;
}

}  // namespace

std::string_view word_of(Verdict verdict) {
  return kVerdictWords[static_cast<std::size_t>(verdict)];
}

std::string_view word_of(Way way) {
  return kWayWords[static_cast<std::size_t>(way)];
}

PolicyTests parse_policy_tests(const std::string& file, const std::string& text) {
  PolicyTests out;
  Reader reader(file, out);
  try {
    reader.file(YAML::Load(text));
  } catch (const YAML::Exception& broken) {
    out.errors.push_back({Diagnostic::Severity::error,
                          {file, broken.mark.line + 1, broken.mark.column + 1},
                          broken.msg,
                          ""});
  }
  return out;
}

std::vector<std::string> differences(const PolicyTest& test, const Explanation& explanation) {
  std::vector<std::string> out;
  std::string decided;
  if (!explanation.steps.empty()) {
    for (const Step& step : explanation.steps) {
      if (step.verdict == explanation.outcome && step.where.line != 0)
        decided = " [" + step.where.to_string() + "]";
    }
  }
  const std::string got = ", got: " + explanation.outcome + decided;
  if (test.verdict && *test.verdict != explanation.verdict)
    out.push_back("expected verdict " + std::string(word_of(*test.verdict)) + ", got " +
                  std::string(word_of(explanation.verdict)) + ": " + explanation.outcome + decided);
  if (test.status && *test.status != explanation.status)
    out.push_back("expected status " + std::to_string(*test.status) + got);
  for (const auto& [phase, name] : test.by) {
    const std::string by = by_name(explanation, phase);
    if (by == name) continue;
    const Step* step = explanation.find(phase);
    const std::string where =
        step != nullptr && step->where.line != 0 ? " [" + step->where.to_string() + "]" : "";
    out.push_back("expected " + phase + (name.empty() ? " to name nothing" : " `" + name + "`") +
                  ", got " + (by.empty() ? "none" : "`" + by + "`") + where + got);
  }
  return out;
}

}  // namespace sluice::policy
