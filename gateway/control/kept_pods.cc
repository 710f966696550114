#include "gateway/control/kept_pods.h"

#include <filesystem>
#include <fstream>

#include "gateway/control/state_file.h"

namespace sluice::gateway {
namespace {

constexpr std::size_t kMaxPodsBytes = 16UL << 20;

std::string pods_path(const std::string& state_dir) {
  return (std::filesystem::path(state_dir) / "pods").string();
}

std::string first_line() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return "pods of boot " + id + "\n";
}

}  // namespace

std::expected<std::string, std::string> load_pods(const std::string& state_dir) {
  const auto text = read_state_file(pods_path(state_dir), kMaxPodsBytes);
  if (!text) return std::unexpected(text.error());
  const std::string head = first_line();
  if (!*text || !(*text)->starts_with(head)) return std::string();
  return (*text)->substr(head.size());
}

std::expected<void, std::string> save_pods(const std::string& state_dir, std::string_view pods) {
  return write_state_file(pods_path(state_dir), first_line().append(pods));
}

}  // namespace sluice::gateway
