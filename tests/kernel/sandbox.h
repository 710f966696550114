// A test body in network and mount namespaces of its own, with its own bpffs: leaves nothing
// behind, collides with nothing. The body runs in a child; EXPECT failures and messages come back
// through the child's exit status.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel::testing {

// Forks, unshares, mounts bpffs at kPinRoot, brings lo up, runs the body, and fails the calling
// test if it failed.
void in_sandbox(const std::function<void()>& body);

inline constexpr const char* kPinRoot = "/tmp/.sluice-test-bpf/sluice";  // private to each sandbox

// A shell command in this sandbox; fails the test unless it exits with 0. Returns what it wrote to
// stdout.
std::string shell(const std::string& command);

// Linux 6.6 and later. Older kernels have the guard as a clsact filter.
bool kernel_has_tcx();

Prefix prefix(const std::string& text);  // "10.0.0.0/8", "2001:db8::1"
std::vector<Prefix> prefixes(const std::vector<std::string>& texts);

// A plan with listeners by name; intercepts are added by the test.
Plan plan_with(const std::vector<std::string>& listeners, std::uint32_t workers = 1);
Intercept entry(WayIn way, const std::vector<std::string>& to, std::vector<PortRange> ports,
                std::uint32_t listener);

}  // namespace sluice::kernel::testing
