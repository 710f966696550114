#include "policy/policy_test.h"

#include <algorithm>
#include <array>
#include <span>

#include "policy/nearest_name.h"
#include "policy/units.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

namespace {

constexpr std::array<std::string_view, 5> kVerdictWords{"pass", "drop", "caught", "forward",
                                                        "refuse"};
constexpr std::array<std::string_view, kWays> kWayWords{"bind", "local", "forward", "output"};
constexpr std::size_t kMostTests = 100'000;

// One file on its way: nodes in, tests and errors out.
class Reader {
 public:
  Reader(Reporter& reporter, PolicyTests& out) : reporter_(reporter), out_(out) {}

  void file(const Node& root) {
    std::vector<IpAddress> node;
    const Node* tests = nullptr;
    for (const Node& entry : root.children) {
      if (entry.key == "node") {
        node = addresses(entry);
      } else if (entry.key == "policy") {
        out_.policy = text(entry);
      } else if (entry.key == "tests") {
        tests = &entry;
      } else {
        unknown(entry, {"policy", "node", "tests"});
      }
    }
    if (tests == nullptr || tests->kind != Node::Kind::list)
      return error(root, "there is no list `tests`", "tests: [{ packet: …, expect: … }]");
    if (tests->children.size() > kMostTests)
      return error(*tests, "too many tests", "at most 100,000 a file");
    for (const Node& entry : tests->children) {
      PolicyTest test = one(entry);
      test.node_addresses = node;
      if (test.name.empty()) test.name = "test " + std::to_string(out_.tests.size() + 1);
      out_.tests.push_back(std::move(test));
    }
  }

 private:
  void error(const Node& at, std::string message, std::string hint = {}) {
    reporter_.error(at.at, std::move(message), std::move(hint));
    ++errors_;
  }
  bool is_map(const Node& node, const std::string& what) {
    if (node.kind == Node::Kind::map) return true;
    error(node, what + " is not a map");
    return false;
  }
  void unknown(const Node& entry, const std::vector<std::string_view>& known) {
    reporter_.error(entry.key_at, "unknown key `" + entry.key + "`", suggestion(entry.key, known));
    ++errors_;
  }
  std::string text(const Node& node) {
    if (node.kind == Node::Kind::scalar) return node.text;
    error(node, "a text is wanted here");
    return {};
  }
  template <typename T, typename Parse>
  T value(const Node& node, Parse parse, const char* right, T otherwise = {}) {
    const std::string word = text(node);
    const auto parsed = parse(word);
    if (parsed) return static_cast<T>(*parsed);
    error(node, "`" + word + "` is not " + right);
    return otherwise;
  }
  template <typename Word, std::size_t N>
  std::optional<Word> word_in(const Node& node, const std::array<std::string_view, N>& words) {
    const std::string given = text(node);
    const auto found = std::ranges::find(words, given);
    if (found != words.end()) return static_cast<Word>(found - words.begin());
    std::string all;
    for (const auto word : words)
      all += (all.empty() ? "" : ", ") + std::string(word);
    error(node, "`" + given + "` is none of " + all);
    return std::nullopt;
  }
  IpAddress address(const Node& node) {
    return value<IpAddress>(node, IpAddress::parse, "an address");
  }
  std::uint16_t port(const Node& node) {
    const auto parse = [](const std::string& word) -> std::optional<std::int64_t> {
      const auto number = parse_integer(word);
      return number && *number <= 65535 ? number : std::nullopt;
    };
    return value<std::uint16_t>(node, parse, "a port, 0 to 65535");
  }
  std::vector<IpAddress> addresses(const Node& node) {
    std::vector<IpAddress> out;
    const Node* list = node.kind == Node::Kind::map ? node.find("addresses") : &node;
    if (list == nullptr || list->kind != Node::Kind::list) {
      error(node, "`node` has no list of addresses", "node: { addresses: [192.0.2.1] }");
      return out;
    }
    for (const Node& entry : list->children)
      out.push_back(address(entry));
    return out;
  }

  PolicyTest one(const Node& node) {
    PolicyTest test;
    test.where = reporter_.locate(node.at);
    if (!is_map(node, "a test")) return test;
    bool expects = false;
    for (const Node& entry : node.children) {
      const std::string& key = entry.key;
      if (key == "name") {
        test.name = text(entry);
      } else if (key == "packet") {
        test.packet = packet(entry);
      } else if (key == "request") {
        test.request = request(entry);
      } else if (key == "expect") {
        expects = true;
        expect(entry, test);
      } else {
        unknown(entry, {"name", "packet", "request", "expect"});
      }
    }
    if (!test.packet && !test.request) error(node, "the test sends nothing", "packet: or request:");
    if (!expects) error(node, "the test expects nothing", "expect: { verdict: drop, guard: RULE }");
    return test;
  }

  PacketDescription packet(const Node& node) {
    PacketDescription packet;
    if (!is_map(node, "packet")) return packet;
    const std::size_t errors = errors_;
    bool from = false;
    bool to = false;
    for (const Node& given : node.children) {
      const std::string& key = given.key;
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
        packet.direction =
            word_in<PacketDirection>(given, words).value_or(PacketDirection::ingress);
      } else {
        unknown(given, {"from", "to", "from_port", "to_port", "protocol", "interface", "cgroup",
                        "fragment", "way", "direction"});
      }
    }
    if (!from || !to) error(node, "a packet has `from` and `to`");
    if (from && to && errors == errors_ && packet.from.is_v4() != packet.to.is_v4())
      error(node, "`from` and `to` are of two IP versions");
    return packet;
  }

  RequestDescription request(const Node& node) {
    RequestDescription request;
    request.target = "/";
    if (!is_map(node, "request")) return request;
    for (const Node& given : node.children) {
      const std::string& key = given.key;
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
        unknown(given,
                {"listener", "way", "client", "destination", "method", "host", "path", "headers"});
      }
    }
    return request;
  }

  void headers(const Node& node, RequestDescription& request) {
    if (!is_map(node, "headers")) return;
    for (const Node& given : node.children) {
      request.headers.emplace_back(given.key, text(given));
      if (request.host.empty() && (given.key == "host" || given.key == "Host"))
        request.host = given.text;
    }
  }

  void expect(const Node& node, PolicyTest& test) {
    if (!is_map(node, "expect")) return;
    static const std::vector<std::string_view> kPhases{"guard", "intercept", "listener", "access",
                                                       "route", "limits",    "upstream"};
    for (const Node& given : node.children) {
      const std::string& key = given.key;
      if (key == "verdict") {
        test.verdict = word_in<Verdict>(given, kVerdictWords);
      } else if (key == "status") {
        test.status = value<int>(given, parse_integer, "a status");
      } else if (std::ranges::find(kPhases, key) != kPhases.end()) {
        test.by.emplace_back(key, given.kind == Node::Kind::null ? std::string() : text(given));
      } else {
        std::vector<std::string_view> known{"verdict", "status"};
        known.insert(known.end(), kPhases.begin(), kPhases.end());
        unknown(given, known);
      }
    }
  }

  Reporter& reporter_;
  PolicyTests& out_;
  std::size_t errors_ = 0;
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
  const std::array files{PolicyFile{.name = file, .text = text}};
  Reporter reporter(files);
  std::size_t node_budget = kMaxPolicyNodes;
  const Node root = parse_yaml(text, 0, node_budget, reporter);
  if (!reporter.has_errors()) Reader(reporter, out).file(root);
  out.errors = reporter.take();
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
