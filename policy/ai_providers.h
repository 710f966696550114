// What a provider of `ai` comes to: its URL, and the upstream that is made for it.
#pragma once

#include <string_view>

#include "policy/config.h"

namespace sluice::policy {

// Fills in each provider's url, and adds an upstream for those that name none. Of a base_url that
// is no URL the authority stays empty, which check_ai() reports.
void complete_ai(Config& config);

// Whether `text` says where a secret is: `file:PATH` or `${NAME}`.
bool is_secret_reference(std::string_view text);

}  // namespace sluice::policy
