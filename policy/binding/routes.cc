// From the tree to `routes and default_route`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/host.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void path(const Node& node, PathMatch& out) {
  const Node* exact = node.find("exact");
  const Node* regex = node.find("regex");
  const Node* prefix = node.kind == Node::Kind::scalar ? &node : node.find("prefix");
  if (exact) {
    out.kind = PathMatch::Kind::exact;
    read(*exact, out.value);
  } else if (regex) {
    out.kind = PathMatch::Kind::regex;
    read(*regex, out.value);
  } else if (prefix) {
    out.kind = PathMatch::Kind::prefix;
    read(*prefix, out.value);
  }
}

void value_match(const Node& node, bool is_header, ValueMatch& out) {
  if (node.kind == Node::Kind::scalar) {
    out.name = node.text;
  } else {
    optional(node, "name", out.name);
    bool present = true;
    optional(node, "present", present);
    out.kind = present ? ValueMatch::Kind::present : ValueMatch::Kind::absent;
    if (const Node* exact = node.find("exact")) {
      out.kind = ValueMatch::Kind::exact;
      read(*exact, out.value);
    } else if (const Node* regex = node.find("regex")) {
      out.kind = ValueMatch::Kind::regex;
      read(*regex, out.value);
    }
  }
  if (is_header) out.name = lower(out.name);
}

}  // namespace

void value_matches(const Node& node, std::string_view key, bool are_headers,
                   std::vector<ValueMatch>& out) {
  each(node, key,
       [&](const Node& element) { value_match(element, are_headers, out.emplace_back()); });
}

void route(const Node& node, const Reporter& reporter, Route& out) {
  out.where = reporter.locate(node.where());
  optional(node, "name", out.name);
  optional(node, "listener", out.listener);
  optional(node, "host", out.host);
  if (auto normal = normalise_host_pattern(out.host)) out.host = std::move(*normal);
  if (const Node* child = node.find("path")) path(*child, out.path);
  optional(node, "methods", out.methods);
  value_matches(node, "headers", true, out.headers);
  value_matches(node, "query", false, out.query);
  optional(node, "to", out.to);
  optional(node, "to_ports", out.to_ports);
  if (const Node* child = node.find("upstream")) read(*child, out.upstreams.emplace_back().name);
  each(node, "upstreams", [&](const Node& element) {
    WeightedUpstream& upstream = out.upstreams.emplace_back();
    if (element.kind == Node::Kind::scalar) return read(element, upstream.name);
    optional(element, "name", upstream.name);
    optional(element, "weight", upstream.weight);
  });
  if (const Node* child = node.find("access")) access(*child, reporter, out.access);
  each(node, "limits", [&](const Node& element) {
    LimitUse& use = out.limits.emplace_back();
    if (element.kind == Node::Kind::scalar) return read(element, use.name);
    optional(element, "name", use.name);
    optional(element, "cost", use.cost);
  });
  optional(node, "ai", out.ai);
  optional(node, "auth", out.auth);
  optional(node, "timeout", out.timeout);
  route_actions(node, reporter, out.actions);
}

void default_route(const Node* node, const Reporter& reporter, DefaultRoute& out) {
  out.forward = std::string(kOriginalDestination);
  out.output = std::string(kOriginalDestination);
  if (!node) return;
  out.where = reporter.locate(node->where());
  optional(*node, "local", out.local);
  optional(*node, "forward", out.forward);
  optional(*node, "output", out.output);
}

}  // namespace sluice::policy::binding
