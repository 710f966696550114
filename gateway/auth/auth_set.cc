#include "gateway/auth/auth_set.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sys/stat.h>

#include "gateway/log.h"

namespace sluice::gateway::auth {

namespace {

// Changes with the file, also when it is exchanged by a symbolic link (a Kubernetes mount).
std::string mark_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::string("error ") + std::strerror(errno);
  return std::to_string(status.st_dev) + " " + std::to_string(status.st_ino) + " " +
         std::to_string(status.st_size) + " " + std::to_string(status.st_mtim.tv_sec) + "." +
         std::to_string(status.st_mtim.tv_nsec);
}

std::expected<std::shared_ptr<const KeySet>, std::string> read_keys(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::unexpected(std::strerror(errno));
  std::string text(KeySet::kMaxBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return KeySet::parse(text);
}

}  // namespace

std::shared_ptr<const AuthSet> AuthRegistry::apply(const policy::Snapshot& snapshot) {
  std::vector<AuthEntry> entries;
  for (const policy::Auth& config : snapshot.config().auth) {
    AuthEntry& entry = entries.emplace_back();
    entry.id = next_id_++;
    entry.config = config;
    if (config.api_keys) entry.api_keys.emplace(*config.api_keys, secret_);
    if (config.external) {
      entry.upstream = snapshot.find_upstream(config.external->url.upstream).value_or(0);
    }
    if (!config.jwt) continue;
    entry.keys = source_of(*config.jwt);
    entry.jwt.emplace(*config.jwt, entry.keys);
    if (config.jwt->jwks_url) {
      entry.upstream = snapshot.find_upstream(config.jwt->jwks_url->upstream).value_or(0);
    }
  }
  std::erase_if(urls_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(files_, [](const auto& entry) { return entry.second.source.expired(); });
  return std::make_shared<const AuthSet>(std::move(entries));
}

std::shared_ptr<KeySource> AuthRegistry::source_of(const policy::JwtAuth& config) {
  if (config.jwks_url) {
    auto& known = urls_[config.jwks_url->text + " " + config.jwks_url->upstream];
    auto source = known.lock();
    if (!source) known = source = std::make_shared<KeySource>();
    return source;
  }
  File& file = files_[config.jwks_file];
  auto source = file.source.lock();
  if (source) return source;
  source = std::make_shared<KeySource>();
  file = {source, ""};
  read(config.jwks_file, file);
  return source;
}

void AuthRegistry::look_at_files() {
  for (auto& [path, file] : files_)
    read(path, file);
}

void AuthRegistry::read(const std::string& path, File& file) {
  const auto source = file.source.lock();
  std::string mark = mark_of(path);
  if (!source || mark == file.seen) return;
  file.seen = std::move(mark);
  auto keys = read_keys(path);
  if (!keys) {
    log_error("auth", source->generation() == 0 ? "no keys: tokens are refused"
                                                : "the last good keys stay in force",
              {{"file", path}, {"error", keys.error()}});
    return;
  }
  log_info("auth", "keys read", {{"file", path}, {"keys", std::to_string((*keys)->size())}});
  source->put(std::move(*keys));
}

}  // namespace sluice::gateway::auth
