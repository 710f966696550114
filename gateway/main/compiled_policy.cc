#include "gateway/main/compiled_policy.h"

#include <algorithm>
#include <iterator>

namespace sluice::control {

using Kind = policy::PolicyFile::Kind;

namespace {

bool comes_at_run_time(const policy::PolicyFile& file) {
  return file.kind == Kind::members || file.kind == Kind::pods;
}

}  // namespace

std::vector<policy::PolicyFile> without_members(std::vector<policy::PolicyFile> files) {
  std::erase_if(files, comes_at_run_time);
  return files;
}

std::string pods_in(const std::vector<policy::PolicyFile>& files) {
  const auto found = std::ranges::find(files, Kind::pods, &policy::PolicyFile::kind);
  return found == files.end() ? std::string() : found->text;
}

std::vector<policy::PolicyFile> policy_files(std::vector<policy::PolicyFile> files) {
  std::erase_if(files, [](const auto& file) { return file.kind != Kind::policy; });
  return files;
}

bool CompiledPolicy::same_files(const std::vector<policy::PolicyFile>& others) const {
  const auto members = std::ranges::find_if(files, comes_at_run_time);
  return std::equal(files.begin(), members, others.begin(), others.end());
}

std::expected<CompiledPolicy, policy::Diagnostics> compile_policy(
    std::vector<policy::PolicyFile> files, const policy::SetReader& read_set) {
  std::vector<policy::PolicyFile> read;
  const policy::SetReader remember = [&](const std::string& path) {
    const auto again = std::ranges::find(read, path, &policy::PolicyFile::name);
    if (again != read.end()) return std::expected<std::string, std::string>(again->text);
    auto text = read_set(path);
    if (text) read.push_back({path, *text, Kind::set});
    return text;
  };
  policy::ParseResult parsed =
      policy::parse(files, read_set ? remember : policy::SetReader());
  if (!parsed.config || policy::has_errors(parsed.diagnostics))
    return std::unexpected(std::move(parsed.diagnostics));
  const auto members = std::ranges::find_if(files, comes_at_run_time);
  files.insert(members, std::make_move_iterator(read.begin()),
               std::make_move_iterator(read.end()));
  return CompiledPolicy{.files = std::move(files),
                        .snapshot = policy::Snapshot::compile(std::move(*parsed.config)),
                        .warnings = std::move(parsed.diagnostics),
                        .stale = {}};
}

std::string to_text(const policy::Diagnostics& diagnostics) {
  std::string text;
  for (const auto& diagnostic : diagnostics) {
    if (!text.empty()) text += '\n';
    text += diagnostic.to_string();
  }
  return text;
}

}  // namespace sluice::control
