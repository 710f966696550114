// Files that a policy names outside of `tls`, as whoever may read them has handed them over.
#pragma once

#include <string>
#include <string_view>

#include "gateway/tls/material.h"

namespace sluice::gateway::tls {

// What begins the name of a secret that is the bytes of a file which must be there (kWholeFile: may
// be missing), behind which is its path.
inline constexpr std::string_view kFileBytes = "bytes:";

// What begins the name of a secret that is a file of prices, which must be there and be good.
inline constexpr std::string_view kPriceFile = "prices:";

// All of the file at `path`: empty where it is missing, null where it was not handed over (as when
// there is no `material`).
SecretPtr whole_file(const Material* material, std::string_view path);

// A text as it is; of `file:PATH` what was handed over as kFileBytes, without the line break that
// editors leave at its end; "" where nothing was.
std::string text_or_file(const std::string& written, const Material* material);

}  // namespace sluice::gateway::tls
