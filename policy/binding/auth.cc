// From the tree to `auth`.
#include <algorithm>

#include "policy/auth_url.h"
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/hexadecimal.h"
#include "policy/schema/auth.h"

namespace sluice::policy::binding {

namespace {

void lower_all(std::vector<std::string>& names) {
  for (std::string& name : names)
    name = lower(name);
}

// What is no URL keeps its text alone, which check_auth() reports.
void url(const Node& node, AuthUrl& out) {
  out.text = node.text;
  if (auto parsed = parse_auth_url(node.text)) out = std::move(*parsed);
}

void api_key(const Node& node, const Reporter& reporter, ApiKey& out) {
  out.where = reporter.locate(node.where());
  optional(node, "name", out.name);
  if (const Node* hash = node.find("sha256")) {
    if (const auto bytes = parse_hexadecimal<32>(hash->text)) out.sha256 = *bytes;
  }
  each(node, "attributes",
       [&](const Node& entry) { out.attributes.emplace_back(entry.key, entry.text); });
}

void api_keys(const Node& node, const Reporter& reporter, ApiKeyAuth& out) {
  optional(node, "header", out.header);
  out.header = lower(out.header);
  each(node, "keys", [&](const Node& key) { api_key(key, reporter, out.keys.emplace_back()); });
  optional(node, "forward", out.forward);
}

void jwt(const Node& node, JwtAuth& out) {
  optional(node, "issuer", out.issuer);
  optional(node, "audience", out.audience);
  if (const Node* jwks = node.find("jwks")) {
    const Node* address = jwks->kind == Node::Kind::scalar ? jwks : jwks->find("url");
    optional(*jwks, "file", out.jwks_file);
    if (address) url(*address, out.jwks_url.emplace());
    if (out.jwks_url) optional(*jwks, "upstream", out.jwks_url->upstream);
    optional(*jwks, "refresh", out.refresh);
  }
  if (const Node* list = node.find("algorithms"); list && list->kind == Node::Kind::list) {
    out.algorithms.clear();
    for (const Node& element : list->children)
      read_word(element, kJwtAlgorithmWords, out.algorithms.emplace_back());
  }
  optional(node, "leeway", out.leeway);
  optional(node, "header", out.header);
  out.header = lower(out.header);
  optional(node, "forward", out.forward);
}

void external(const Node& node, ExternalAuth& out) {
  if (const Node* child = node.find("url")) url(*child, out.url);
  optional(node, "upstream", out.url.upstream);
  optional(node, "timeout", out.timeout);
  optional_word(node, "on_error", kOnAuthErrorWords, out.on_error);
  optional(node, "request_headers", out.request_headers);
  optional(node, "upstream_headers", out.upstream_headers);
  lower_all(out.request_headers);
  lower_all(out.upstream_headers);
}

}  // namespace

void auth(const Node& node, const Reporter& reporter, Auth& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  if (const Node* child = node.find("api_keys")) api_keys(*child, reporter, out.api_keys.emplace());
  if (const Node* child = node.find("jwt")) jwt(*child, out.jwt.emplace());
  if (const Node* child = node.find("external")) external(*child, out.external.emplace());
}

}  // namespace sluice::policy::binding
