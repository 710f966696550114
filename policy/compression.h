// Whether an answer may be compressed, and how.
#pragma once

#include <optional>
#include <string_view>

#include "policy/config/compression.h"

namespace sluice::policy {

// The coding that a client takes with the greatest quality, of those the policy's first; none: as
// it is (RFC 9110 section 12.5.3). `accept`: the field's value, all lines joined.
std::optional<Coding> choose_coding(const Compression& config, std::string_view accept);

// A stream of events or of messages, which a compressor would hold back.
bool is_never_compressed(std::string_view type);
// By its Content-Type; never what is a stream of events or of messages.
bool is_compressible(const Compression& config, std::string_view content_type);

// A directive among those of Cache-Control.
bool has_directive(std::string_view cache_control, std::string_view lower_name);

}  // namespace sluice::policy
