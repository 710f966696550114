// From a policy's `kubernetes` to the API server that it means.
#pragma once

#include <cstdint>
#include <optional>

#include "gateway/kubernetes/api_server.h"
#include "gateway/tls/material.h"
#include "policy/config.h"

namespace sluice::gateway::kubernetes {

// nullopt: the policy asks for none, or (which is said) this process is in no pod. `material` holds
// the token; may be null.
std::optional<ApiServer> find_server(const policy::Config& config, tls::ClientContextPtr tls,
                                     const tls::Material* material, std::uint32_t own_mark);

// What `${NAME}` stands for in this process's environment; a text without is itself. nullopt: it is
// not there, or empty.
std::optional<std::string> from_environment(const std::string& text);

}  // namespace sluice::gateway::kubernetes
