#include "gateway/main/compiled_policy.h"

#include <algorithm>

namespace sluice::control {

bool CompiledPolicy::same_files(const std::vector<policy::PolicyFile>& others) const {
  return std::ranges::equal(files, others, [](const auto& a, const auto& b) {
    return a.name == b.name && a.text == b.text;
  });
}

std::expected<CompiledPolicy, policy::Diagnostics> compile_policy(
    std::vector<policy::PolicyFile> files) {
  policy::ParseResult parsed = policy::parse(files);
  if (!parsed.config || policy::has_errors(parsed.diagnostics))
    return std::unexpected(std::move(parsed.diagnostics));
  return CompiledPolicy{.files = std::move(files),
                        .snapshot = policy::Snapshot::compile(std::move(*parsed.config)),
                        .warnings = std::move(parsed.diagnostics)};
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
