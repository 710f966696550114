#include "gateway/control/last_good.h"

#include <cstdint>
#include <filesystem>

#include "gateway/control/policy_source.h"
#include "gateway/control/state_file.h"

namespace sluice::gateway {
namespace {

constexpr std::string_view kMagic = "sluice-policy-bundle 2\n";
constexpr std::string_view kOldMagic = "sluice-policy-bundle 1\n";  // policy files alone
static_assert(kMagic.size() == kOldMagic.size());
constexpr std::size_t kMaxFiles = 2 * kMaxPolicyFiles;
constexpr std::size_t kMaxBytes = 512UL << 20;  // sets are large

void append_size(std::string& out, std::size_t size) {
  for (int shift = 0; shift < 32; shift += 8)
    out.push_back(static_cast<char>((size >> shift) & 0xff));
}

std::optional<std::string_view> take(std::string_view& bytes) {
  if (bytes.size() < 4) return std::nullopt;
  std::uint32_t size = 0;
  for (int i = 0; i < 4; ++i)
    size |=
        static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]))
        << (8 * i);
  bytes.remove_prefix(4);
  if (size > bytes.size()) return std::nullopt;
  const std::string_view value = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return value;
}

}  // namespace

std::string bundle_policy(const std::vector<policy::PolicyFile>& files) {
  std::string out(kMagic);
  for (const auto& file : files) {
    out.push_back(static_cast<char>('0' + static_cast<int>(file.kind)));
    append_size(out, file.name.size());
    out += file.name;
    append_size(out, file.text.size());
    out += file.text;
  }
  return out;
}

std::optional<std::vector<policy::PolicyFile>> unbundle_policy(std::string_view bytes) {
  const bool without_kinds = bytes.starts_with(kOldMagic);
  if (!without_kinds && !bytes.starts_with(kMagic)) return std::nullopt;
  bytes.remove_prefix(kMagic.size());
  std::vector<policy::PolicyFile> files;
  while (!bytes.empty()) {
    const int kind = without_kinds ? 0 : bytes.front() - '0';
    if (kind < 0 || kind > static_cast<int>(policy::PolicyFile::Kind::pods)) return std::nullopt;
    if (!without_kinds) bytes.remove_prefix(1);
    const auto path = take(bytes);
    if (!path) return std::nullopt;
    const auto text = take(bytes);
    if (!text || files.size() == kMaxFiles) return std::nullopt;
    files.push_back(
        {std::string(*path), std::string(*text), static_cast<policy::PolicyFile::Kind>(kind)});
  }
  if (files.empty()) return std::nullopt;
  return files;
}

LastGood::LastGood(const std::string& state_dir)
    : path_((std::filesystem::path(state_dir) / "last-good.policy").string()) {}

std::expected<void, std::string> LastGood::save(
    const std::vector<policy::PolicyFile>& files) const {
  return write_state_file(path_, bundle_policy(files));
}

std::expected<std::vector<policy::PolicyFile>, std::string> LastGood::load() const {
  const auto bytes = read_state_file(path_, kMaxBytes);
  if (!bytes) return std::unexpected(bytes.error());
  if (!*bytes) return std::unexpected(path_ + ": there is none");
  auto files = unbundle_policy(**bytes);
  if (!files) return std::unexpected(path_ + ": not a policy that sluice kept, or damaged");
  return std::move(*files);
}

}  // namespace sluice::gateway
