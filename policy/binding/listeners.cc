// From the tree to `listeners`.
#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

void listener(const Node& node, const Reporter& reporter, Listener& out) {
  out.name = node.key;
  out.where = reporter.locate(node.where());
  optional(node, "bind", out.bind);
  optional_word(node, "protocol", kListenerProtocolWords, out.protocol);
  optional(node, "max_connections", out.max_connections);
  if (const Node* child = node.find("access")) access(*child, reporter, out.access);
  optional(node, "limits", out.limits);
  optional_word(node, "accept_proxy_protocol", kAcceptProxyProtocolWords,
                out.accept_proxy_protocol);
  optional_word(node, "client_from", kClientFromWords, out.client_from);
  optional_word(node, "forwarded", kForwardedWords, out.forwarded);
  optional_word(node, "request_id", kRequestIdWords, out.request_id);
  optional_word(node, "express", kExpressWords, out.express);
  optional_word(node, "trace_context", kTraceContextWords, out.trace_context);
  if (const Node* share = node.find("trace_sample"))
    take(parse_percent(share->text), out.trace_sample);
  optional(node, "cancel_on_close", out.cancel_on_close);
  optional_word(node, "verify_authority", kVerifyAuthorityWords, out.verify_authority);
  if (const Node* tls = node.find("tls")) listener_tls(*tls, reporter, out.tls.emplace());
  if (const Node* timeouts = node.find("timeouts")) {
    optional(*timeouts, "detect", out.timeouts.detect);
    optional(*timeouts, "handshake", out.timeouts.handshake);
    optional(*timeouts, "head", out.timeouts.head);
    optional(*timeouts, "body_idle", out.timeouts.body_idle);
    optional(*timeouts, "idle", out.timeouts.idle);
    optional(*timeouts, "drain", out.timeouts.drain);
  }
}

}  // namespace sluice::policy::binding
