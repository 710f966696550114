// What `sluice explain` asks, as JSON between command line, keeper and gateway; and the answer.
// The same code makes both offline and live, so that they differ only in what they know.
#pragma once

#include <expected>
#include <optional>
#include <string>

#include <boost/json.hpp>

#include "policy/explain.h"

namespace sluice::control {

struct ExplainQuestion {
  std::optional<policy::PacketDescription> packet;
  std::optional<policy::RequestDescription> request;  // its target is normalised
  std::uint16_t port = 0;                             // the URL's; 0: it has none
  std::optional<policy::IpAddress> source = {};       // alone: all that is known of it
  policy::KnownBy known_by = policy::KnownBy::all;    // … by the gateway, where the keeper asks
};

inline constexpr const char* kNothingToExplain =
    "nothing to explain: give --from, --from and --to, or a method and a URL";

// Keys: from, from_port, to, to_port (or port), protocol (or proto), direction, interface, way,
// cgroup, fragment; method, url (absolute, or a path with `host`), host, headers and claims
// ([[name, value], …]), certificate_names, listener; or `from` alone, of a source. The error says
// which one and what would be right.
std::expected<ExplainQuestion, std::string> parse_question(const boost::json::object& question);

policy::Explanation explain(const policy::Snapshot& snapshot, const ExplainQuestion& question,
                            const policy::LiveState& live = {});

// A target as a client sends it ("/a/../b?c"), with its path in the form that is matched and
// forwarded. The error is the gateway's reason for a 400.
std::expected<std::string, std::string> normalised_target(std::string_view target);
// What becomes of a request that is malformed.
policy::Explanation malformed(const std::string& reason);

// {"ok", "verdict", "outcome", "passes", "status"?, "by"?, "where"?, "steps": [{"phase", "verdict",
// "where"?, "name"?, "reasons": [{"text", "where"?}]}]}
boost::json::object to_json(const policy::Snapshot& snapshot,
                            const policy::Explanation& explanation);

// The way's rest, as the keeper asks its gateway for it: the question with what the packet's steps
// found out.
boost::json::object rest_of(const boost::json::object& question, const policy::Snapshot& snapshot,
                            const policy::Explanation& so_far);
// The gateway's part of what is known of a source.
boost::json::object rest_of_source(const boost::json::object& question);
// Puts the gateway's answer behind the keeper's steps; alone they stand where it has nothing to
// add.
boost::json::object joined(boost::json::object first, const boost::json::object& rest);

}  // namespace sluice::control
