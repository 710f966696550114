// A transport's socket as OpenSSL sees it. Through the transport and not through the descriptor, so
// that waits know whether a read has left anything, and a broken pipe raises no signal.
#pragma once

#include "gateway/tls/openssl.h"

namespace sluice::gateway {
class Transport;
}

namespace sluice::gateway::tls {

// `transport` outlives it. Null: out of memory.
BioPtr make_transport_bio(Transport& transport);

}  // namespace sluice::gateway::tls
