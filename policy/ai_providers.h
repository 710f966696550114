// What a provider of `ai` comes to: its URL, and the upstream that is made for it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/config.h"

namespace sluice::policy {

// Fills in each provider's url, and adds an upstream for those that name none. Of a base_url that
// is no URL the authority stays empty, which check_ai() reports.
void complete_ai(Config& config);

// The upstreams whose addresses are the vendors': what goes there is to go through the gateway.
// Empty without `ai.bypass`. A provider with an upstream of the operator's own may well share its
// address with others.
std::vector<std::string> vendor_upstreams(const AiConfig& ai);
// One of them that stands for a host alone (`bypass.hosts`): nothing is sent there.
bool is_watched_upstream(std::string_view name);

// Below `state_dir`: where the gateway process may write. All else there is the keeper's.
std::string gateway_directory(const std::string& state_dir);

// Whether `text` says where a secret is: `file:PATH` or `${NAME}`.
bool is_secret_reference(std::string_view text);

}  // namespace sluice::policy
