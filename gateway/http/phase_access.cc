// Phase access, of a route: may this client use it?
#include "gateway/http/exchange.h"
#include "gateway/http1/request_fields.h"
#include "gateway/original_destination.h"
#include "gateway/tls/stream.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

// Who asks, as routes, access rules, limits and bans see it.
const policy::IpAddress& Exchange::client_address() const {
  return address_;
}

policy::RequestView Exchange::view(const policy::FieldSource& fields, bool with_destination) {
  policy::RequestView view;
  view.client = client_address();
  view.client_claimed = address_claimed_;
  if (with_destination) view.destination = local_address(client_->client().transport->fd());
  view.method = request_.method_name();
  view.host = host_;
  view.path = normal_path_;
  view.query = request_.query();
  view.fields = &fields;
  if (!attributes_.empty()) view.attributes = &attributes_;
  find_proof(view);
  return view;
}

void Exchange::find_proof(policy::RequestView& view) {
  const tls::Identity* shown = certificate();
  if (shown == nullptr) return;
  proven_.certificate_names = shown->names;
  view.identity = &proven_;
}

// What the client has shown of itself; null: nothing.
const tls::Identity* Exchange::certificate() const {
  TlsStream* const tls = client_->client().transport->tls();
  return tls == nullptr ? nullptr : tls->identity();
}

bool Exchange::may_use(const policy::CompiledRoute& route) {
  if (route.access.empty()) return true;
  const http1::RequestFields fields(request_, joined_field_);
  if (route.access.check(view(fields, false)).allowed) return true;
  worker_.metrics().access_denied(listener().slot());
  if (worker_.strike(*config_, listener(), policy::BanEvent::access_denied, route_,
                     client_address(), address_claimed_)) {
    client_->close_after(false);
  }
  refuse(403, "access denied");
  return false;
}

}  // namespace sluice::gateway::http
