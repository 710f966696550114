// From the tree to what a route does besides forwarding.
#include <charconv>

#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema/route_actions.h"

namespace sluice::policy::binding {

namespace {

void field_changes(const Node& node, const Reporter& reporter, FieldChanges& out) {
  out.where = reporter.locate(node.where());
  const auto changes = [&](std::string_view key, std::vector<FieldChange>& to) {
    each(node, key, [&](const Node& entry) {
      to.push_back({lower(entry.key), entry.text, reporter.locate(entry.where())});
    });
  };
  changes("set", out.set);
  changes("add", out.add);
  optional(node, "remove", out.remove);
  for (std::string& name : out.remove)
    name = lower(name);
}

void path_change(const Node& node, PathChange& out) {
  if (const Node* prefix = node.find("prefix")) {
    out.kind = PathChange::Kind::prefix;
    read(*prefix, out.value);
  } else if (const Node* path = node.find("path")) {
    out.kind = PathChange::Kind::full;
    read(*path, out.value);
  }
}

void rewrite(const Node& node, const Reporter& reporter, Rewrite& out) {
  out.where = reporter.locate(node.where());
  optional(node, "host", out.host);
  path_change(node, out.path);
}

void redirect(const Node& node, const Reporter& reporter, Redirect& out) {
  out.where = reporter.locate(node.where());
  optional(node, "status", out.status);
  optional(node, "scheme", out.scheme);
  optional(node, "host", out.host);
  optional(node, "port", out.port);
  path_change(node, out.path);
}

void direct_response(const Node& node, const Reporter& reporter, DirectResponse& out) {
  out.where = reporter.locate(node.where());
  optional(node, "status", out.status);
  optional(node, "body", out.body);
  optional(node, "content_type", out.content_type);
}

void cors(const Node& node, const Reporter& reporter, Cors& out) {
  out.where = reporter.locate(node.where());
  optional(node, "allow_origins", out.allow_origins);
  for (std::string& origin : out.allow_origins)
    origin = lower(origin);
  optional(node, "allow_methods", out.allow_methods);
  optional(node, "allow_headers", out.allow_headers);
  optional(node, "expose_headers", out.expose_headers);
  optional(node, "allow_credentials", out.allow_credentials);
  optional(node, "max_age", out.max_age);
}

void mirror(const Node& node, Mirror& out) {
  optional(node, "upstream", out.upstream);
  if (const Node* child = node.find("percent")) take(parse_percent(child->text), out.percent);
}

void compression(const Node& node, Compression& out) {
  if (const Node* list = node.find("algorithms"); list && list->kind == Node::Kind::list) {
    out.algorithms.clear();
    for (const Node& element : list->children)
      read_word(element, kCodingWords, out.algorithms.emplace_back());
  }
  optional(node, "types", out.types);
  for (std::string& type : out.types)
    type = lower(type);
  if (const Node* child = node.find("min_size")) read_size(*child, out.min_size);
  optional(node, "level", out.level);
}

void size(const Node& node, std::string_view key, std::optional<std::uint64_t>& out) {
  if (const Node* child = node.find(key)) read_size(*child, out.emplace());
}

}  // namespace

void route_actions(const Node& node, const Reporter& reporter, RouteActions& out) {
  if (const Node* child = node.find("request_headers")) {
    field_changes(*child, reporter, out.request_headers);
  }
  if (const Node* child = node.find("response_headers")) {
    field_changes(*child, reporter, out.response_headers);
  }
  if (const Node* child = node.find("rewrite")) rewrite(*child, reporter, out.rewrite.emplace());
  if (const Node* child = node.find("redirect")) redirect(*child, reporter, out.redirect.emplace());
  if (const Node* child = node.find("direct_response")) {
    direct_response(*child, reporter, out.direct_response.emplace());
  }
  if (const Node* child = node.find("cors")) cors(*child, reporter, out.cors.emplace());
  if (const Node* child = node.find("mirror")) mirror(*child, out.mirror.emplace());
  if (const Node* child = node.find("compression")) {
    compression(*child, out.compression.emplace());
  }
  size(node, "max_body", out.max_body);
  size(node, "max_response_body", out.max_response_body);
}

}  // namespace sluice::policy::binding
