#include "gateway/tls/named_files.h"

namespace sluice::gateway::tls {

SecretPtr whole_file(const Material* material, std::string_view path) {
  if (material == nullptr) return nullptr;
  return material->secret(std::string(kWholeFile).append(path));
}

std::string text_or_file(const std::string& written, const Material* material) {
  constexpr std::string_view kFile = "file:";
  if (!written.starts_with(kFile)) return written;
  const std::string name = std::string(kFileBytes).append(written, kFile.size());
  const SecretPtr bytes = material != nullptr ? material->secret(name) : nullptr;
  std::string_view text = bytes ? bytes->view() : std::string_view();
  while (text.ends_with('\n') || text.ends_with('\r'))
    text.remove_suffix(1);
  return std::string(text);
}

}  // namespace sluice::gateway::tls
