// From the tree to `routes and default_route`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void path(const Node& node, PathMatch& out) {
  const Node* exact = node.find("exact");
  const Node* prefix = node.kind == Node::Kind::scalar ? &node : node.find("prefix");
  if (exact) {
    out.kind = PathMatch::Kind::exact;
    read(*exact, out.value);
  } else if (prefix) {
    out.kind = PathMatch::Kind::prefix;
    read(*prefix, out.value);
  }
}

}  // namespace

void route(const Node& node, const Reporter& reporter, Route& out) {
  out.where = reporter.locate(node.where());
  optional(node, "name", out.name);
  optional(node, "listener", out.listener);
  optional(node, "host", out.host);
  std::ranges::transform(out.host, out.host.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (const Node* child = node.find("path")) path(*child, out.path);
  if (const Node* child = node.find("upstream")) read(*child, out.upstreams.emplace_back().name);
  each(node, "upstreams", [&](const Node& element) {
    WeightedUpstream& upstream = out.upstreams.emplace_back();
    if (element.kind == Node::Kind::scalar) return read(element, upstream.name);
    optional(element, "name", upstream.name);
    optional(element, "weight", upstream.weight);
  });
  optional(node, "limits", out.limits);
  optional(node, "timeout", out.timeout);
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
