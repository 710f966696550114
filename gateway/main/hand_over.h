// `sluice upgrade`: the keeper's program is replaced in place (execve), its pid, sockets, locks and
// gateway processes stay. What the next program has to know travels in a sealed memfd as JSON, of
// which unknown keys are ignored: older and newer programs read each other's.
#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gateway/main/gateway_supervisor.h"
#include "gateway/main/tls_source.h"
#include "kernel/keeper.h"
#include "kernel/keeper_protocol.h"
#include "policy/document.h"

namespace sluice::control {

struct HandOver {
  std::string attempt{};       // whose `sluice upgrade` this is
  std::string from_version{};  // of the program that hands over
  std::string problem{};       // it could not go on, and this is its predecessor again
  std::uint32_t workers = 1;
  std::uint32_t upgrades = 0;                 // so far, this one included
  std::vector<policy::PolicyFile> files{};  // in force
  kernel::KeeperHandOver keeper{};
  std::vector<GatewayLeft> gateways{};
  TicketKeysLeft ticket_keys{};
  int admin = -1;    // the admin socket, listening
  int program = -1;  // the file of the program that hands over, to go back to
};

// The descriptor given by the environment variable SLUICE_HAND_OVER, which is removed from it; -1:
// an ordinary start.
int inherited_hand_over();
// With SLUICE_HAND_OVER_CHECK: only say whether this program could take over.
bool hand_over_is_a_check();

// The hand-over as the next program gets it, and what it refers to.
struct HandOverMemory {
  kernel::protocol::OwnedFd text;
  kernel::protocol::OwnedFd policy;
  kernel::protocol::OwnedFd ticket_keys;  // apart from the text: they are secrets

  std::vector<int> descriptors() const { return {text.get(), policy.get(), ticket_keys.get()}; }
};
std::expected<HandOverMemory, std::string> write_hand_over(const HandOver& hand_over);
// Descriptors named in it are marked close-on-exec again, and are the caller's to close. The one it
// was read from stays open.
// `received`: of another process, whose numbers are ours by it; what is not in it is -1.
std::expected<HandOver, std::string> read_hand_over(
    int fd, const std::optional<std::map<int, int>>& received = std::nullopt);
// All that the next program has to get, beside the memory: the lock, sockets, channels.
std::vector<int> descriptors_of(const HandOver& hand_over);

// What the check prints on standard output when all is well.
inline constexpr const char* kHandOverAccepted = "sluice can take over";

// Runs `program` on this process's arguments as a check, 10 s at most. An error is what it said.
std::expected<void, std::string> check_program(const std::string& program,
                                               const HandOverMemory& memory);

// Becomes `program`, with this process's arguments. Returns only when that fails; then nothing has
// changed. Signals stay blocked for the next program until its handlers are there.
std::string become(const std::string& program, const HandOver& hand_over,
                   const HandOverMemory& memory);

// SIGTERM and the like wait while there is nobody to take them.
void block_signals();
void unblock_signals();

}  // namespace sluice::control
