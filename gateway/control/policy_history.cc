#include "gateway/control/policy_history.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

#include "gateway/control/last_good.h"
#include "gateway/control/state_file.h"

namespace sluice::gateway {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".policy";

std::expected<std::string, std::string> read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (!file) return std::unexpected(path + ": cannot be read");
  // Of an empty file nothing is taken, which is a failure of the stream and none of ours.
  if (file.peek() == std::ifstream::traits_type::eof()) return std::string();
  if (!(bytes << file.rdbuf())) return std::unexpected(path + ": cannot be read");
  return bytes.str();
}

}  // namespace

PolicyHistory::PolicyHistory(const std::string& state_dir)
    : directory_((fs::path(state_dir) / "history").string()) {}

std::string PolicyHistory::path(std::uint64_t number) const {
  char name[32];
  std::snprintf(name, sizeof name, "%08llu", static_cast<unsigned long long>(number));
  return (fs::path(directory_) / (name + std::string(kSuffix))).string();
}

std::vector<PolicyHistory::Entry> PolicyHistory::entries() const {
  std::vector<Entry> out;
  std::error_code error;
  for (fs::directory_iterator it(directory_, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    Entry entry;
    const auto [stop, bad] = std::from_chars(name.data(), name.data() + name.size(), entry.number);
    if (bad != std::errc{} || std::string_view(stop) != kSuffix) continue;
    struct stat status{};
    if (::stat(it->path().c_str(), &status) != 0) continue;
    entry.at = status.st_mtime;
    out.push_back(entry);
  }
  std::ranges::sort(out, std::ranges::greater{}, &Entry::number);
  return out;
}

std::expected<std::vector<policy::PolicyFile>, std::string> PolicyHistory::load(
    std::uint64_t number) const {
  const auto bytes = read_all(path(number));
  if (!bytes)
    return std::unexpected("there is no policy " + std::to_string(number) + " in " + directory_ +
                           "; see `sluice history`");
  auto files = unbundle_policy(*bytes);
  if (!files) return std::unexpected(path(number) + ": damaged");
  return std::move(*files);
}

std::expected<void, std::string> PolicyHistory::record(
    const std::vector<policy::PolicyFile>& files) const {
  const std::string bytes = bundle_policy(files);
  const auto known = entries();
  if (!known.empty()) {
    const auto newest = read_all(path(known.front().number));
    if (newest && *newest == bytes) return {};
  }
  std::error_code error;
  fs::create_directories(directory_, error);
  ::chmod(directory_.c_str(), 0700);  // the files are whole policies
  const std::string target = path(known.empty() ? 1 : known.front().number + 1);
  if (auto written = write_state_file(target, bytes); !written) return written;
  for (std::size_t i = kKept - 1; i < known.size(); ++i)
    fs::remove(path(known[i].number), error);
  return {};
}

}  // namespace sluice::gateway
