#include "gateway/auth/auth_set.h"

#include "gateway/log.h"
#include "gateway/tls/named_files.h"

namespace sluice::gateway::auth {

std::shared_ptr<const AuthSet> AuthRegistry::apply(const policy::Snapshot& snapshot,
                                                   const tls::Material* material) {
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
    entry.keys = source_of(*config.jwt, material);
    entry.jwt.emplace(*config.jwt, entry.keys);
    if (config.jwt->jwks_url) {
      entry.upstream = snapshot.find_upstream(config.jwt->jwks_url->upstream).value_or(0);
    }
  }
  carried_.clear();  // the issuers of no entry
  std::erase_if(urls_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(files_, [](const auto& entry) { return entry.second.source.expired(); });
  return std::make_shared<const AuthSet>(std::move(entries));
}

std::shared_ptr<KeySource> AuthRegistry::source_of(const policy::JwtAuth& config,
                                                   const tls::Material* material) {
  if (config.jwks_url) {
    const std::string place = config.jwks_url->text + " " + config.jwks_url->upstream;
    auto& known = urls_[place];
    auto source = known.lock();
    if (!source) known = source = known_before(place);
    return source;
  }
  File& file = files_[config.jwks_file];
  auto source = file.source.lock();
  if (source) return source;
  source = std::make_shared<KeySource>();
  file = {source, nullptr};
  take(config.jwks_file, file, tls::whole_file(material, config.jwks_file));
  return source;
}

// With what the gateway before had, if anything.
std::shared_ptr<KeySource> AuthRegistry::known_before(const std::string& place) {
  auto source = std::make_shared<KeySource>();
  const auto carried = carried_.find(place);
  if (carried == carried_.end()) return source;
  if (auto keys = KeySet::parse(carried->second)) {
    log_info(
        "auth", "keys are those that were known before, until the issuer answers",
        {{"url", place.substr(0, place.find(' '))}, {"keys", std::to_string((*keys)->size())}});
    source->put(std::move(*keys), carried->second);
  }
  return source;
}

std::vector<policy::CarriedKeys> AuthRegistry::keys() const {
  std::vector<policy::CarriedKeys> out;
  for (const auto& [place, text] : carried_)
    out.push_back({place, text});
  for (const auto& [place, known] : urls_) {
    const auto source = known.lock();
    if (!source) continue;
    if (std::string text = source->text(); !text.empty()) out.push_back({place, std::move(text)});
  }
  return out;
}

void AuthRegistry::take_over(std::vector<policy::CarriedKeys> keys) {
  for (policy::CarriedKeys& one : keys) {
    if (one.text.size() <= KeySet::kMaxBytes)
      carried_.insert_or_assign(std::move(one.source), std::move(one.text));
  }
}

void AuthRegistry::refresh(const tls::Material* material) {
  for (auto& [path, file] : files_)
    take(path, file, tls::whole_file(material, path));
}

void AuthRegistry::take(const std::string& path, File& file, const tls::SecretPtr& bytes) {
  const auto source = file.source.lock();
  if (!source || !bytes || (file.taken && *file.taken == *bytes)) return;
  file.taken = bytes;
  auto keys = KeySet::parse(bytes->view());
  if (!keys) {
    log_error("auth",
              source->generation() == 0 ? "no keys: tokens are refused"
                                        : "the last good keys stay in force",
              {{"file", path}, {"error", keys.error()}});
    return;
  }
  log_info("auth", "keys read", {{"file", path}, {"keys", std::to_string((*keys)->size())}});
  source->put(std::move(*keys));
}

}  // namespace sluice::gateway::auth
