// Writes a policy to where it is read from: prepared beside it, then moved over it. A file that is
// a mount of its own (a container's) takes no other's place and is written as it stands.
#pragma once

#include <expected>
#include <string>
#include <utility>
#include <vector>

#include "kernel/keeper_protocol.h"
#include "policy/document.h"

namespace sluice::gateway {

// The same files by the names that they will have at `path`: one file takes its name, those of a
// directory keep their own within it. The error says why they do not fit.
std::expected<std::vector<policy::PolicyFile>, std::string> placed_at(
    const std::string& path, std::vector<policy::PolicyFile> files);

class PolicyWriter {
 public:
  // Writes hidden files beside the policy's; nothing that is read changes. The error says where it
  // is read-only, immutable, or managed by somebody else (a ConfigMap's mount).
  static std::expected<PolicyWriter, std::string> prepare(
      const std::string& path, const std::vector<policy::PolicyFile>& placed);
  PolicyWriter(PolicyWriter&& other) noexcept
      : moves_(std::exchange(other.moves_, {})),
        in_place_(std::exchange(other.in_place_, {})),
        gone_(std::exchange(other.gone_, {})) {}
  PolicyWriter& operator=(PolicyWriter&&) = delete;
  ~PolicyWriter();  // without commit(): takes away what was prepared

  std::expected<void, std::string> commit();

 private:
  struct InPlace {
    kernel::protocol::OwnedFd file;
    std::string path;
    std::string text;
  };

  PolicyWriter() = default;
  std::expected<void, std::string> add(const std::string& target, const std::string& text);
  std::vector<std::pair<std::string, std::string>> moves_;  // from, to
  std::vector<InPlace> in_place_;                           // mounts of their own
  std::vector<std::string> gone_;                           // files that the policy no longer has
};

}  // namespace sluice::gateway
