#include "gateway/tls/files.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/log.h"
#include "gateway/tls/certificate.h"
#include "gateway/tls/leaf_mint.h"
#include "gateway/tls/named_files.h"
#include "kernel/keeper_protocol.h"
#include "policy/prices.h"
#include "policy/schema.h"

namespace sluice::gateway::tls {
namespace {

constexpr std::size_t kMaxFile = 8UL << 20;

enum class Readers : std::uint8_t { any, owner_alone };

std::expected<SecretPtr, std::string> read(const std::string& path,
                                           Readers readers = Readers::any) {
  const kernel::protocol::OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return std::unexpected(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return std::unexpected("not a regular file");
  if (readers == Readers::owner_alone && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return std::unexpected("is the key of a certificate authority and open to others: chmod 600");
  if (static_cast<std::size_t>(status.st_size) > kMaxFile) return std::unexpected("too large");
  std::vector<char> bytes(static_cast<std::size_t>(status.st_size));
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t n = ::read(fd.get(), bytes.data() + filled, bytes.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(std::strerror(errno));
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
  }
  bytes.resize(filled);
  return std::make_shared<const Secret>(std::move(bytes));
}

// Where distributions keep the list of authorities, as one file.
std::string system_authorities() {
  if (const char* own = std::getenv("SSL_CERT_FILE"); own != nullptr && *own != '\0') return own;
  constexpr std::array kPlaces{"/etc/ssl/certs/ca-certificates.crt",
                               "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                               "/etc/ssl/cert.pem"};
  for (const char* place : kPlaces) {
    if (::access(place, R_OK) == 0) return place;
  }
  return kPlaces[0];
}

std::string path_of(const std::string& authority) {
  return authority == policy::kSystemCa ? system_authorities() : authority;
}

struct ReadPair {
  KeyPair pair;
  Certificate certificate;
};

// What a pair is for.
enum class PairUse : std::uint8_t { show, sign };

std::expected<ReadPair, std::string> read_pair(const PairName& name, PairUse use) {
  auto cert = read(name.cert);
  if (!cert) return std::unexpected(name.cert + ": " + cert.error());
  auto key = name.key.empty()
                 ? cert
                 : read(name.key, use == PairUse::sign ? Readers::owner_alone : Readers::any);
  if (!key) return std::unexpected(name.key + ": " + key.error());
  KeyPair pair{.cert = std::move(*cert), .key = std::move(*key)};
  auto parsed = parse_certificate(pair);
  if (!parsed) return std::unexpected(name.cert + ": " + parsed.error());
  if (use == PairUse::sign) {
    if (auto able = may_sign(*parsed); !able)
      return std::unexpected(name.cert + ": " + able.error());
  }
  return ReadPair{std::move(pair), std::move(*parsed)};
}

PairUse use_of(const PairName& name, const std::set<PairName>& signers) {
  return signers.contains(name) ? PairUse::sign : PairUse::show;
}

std::expected<SecretPtr, std::string> read_authority(const std::string& authority) {
  const std::string path = path_of(authority);
  auto bytes = read(path);
  if (!bytes) return std::unexpected(path + ": " + bytes.error());
  if (auto parsed = parse_authorities((*bytes)->view()); !parsed)
    return std::unexpected(path + ": " + parsed.error());
  return std::move(*bytes);
}

constexpr std::string_view kFile = "file:";

// All of a file that need not be there.
std::expected<SecretPtr, std::string> read_whole(const std::string& path) {
  auto bytes = read(path);
  if (bytes) return bytes;
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::make_shared<const Secret>();
  return std::unexpected(path + ": " + bytes.error());
}

std::expected<SecretPtr, std::string> read_bytes(const std::string& path) {
  auto bytes = read(path);
  if (bytes && (*bytes)->size() == 0) return std::unexpected(path + " is empty");
  return bytes ? bytes : std::unexpected(path + ": " + bytes.error());
}

// Empty: they are good.
policy::Diagnostics judge_prices(std::string_view text, const std::string& path) {
  const auto prices = policy::Prices::parse(text, path);
  if (!prices) return prices.error();
  if (!prices->empty()) return {};
  return {{.where = {path, 1, 1},
           .message = "there is no price in it",
           .hint = "such as `gpt-5: { input: 1.25, output: 10 }`"}};
}

std::expected<SecretPtr, std::string> read_prices(const std::string& path) {
  auto bytes = read_bytes(path);
  if (!bytes) return bytes;
  const auto problems = judge_prices((*bytes)->view(), path);
  if (!problems.empty()) return std::unexpected(problems.front().to_string());
  return bytes;
}

// `file:PATH` or `${NAME}`, without the line break that editors leave at the end of a file.
std::expected<SecretPtr, std::string> read_secret(const std::string& reference) {
  constexpr std::string_view kBlank = " \t\r\n";
  if (reference.starts_with(kWholeFile)) return read_whole(reference.substr(kWholeFile.size()));
  if (reference.starts_with(kFileBytes)) return read_bytes(reference.substr(kFileBytes.size()));
  if (reference.starts_with(kPriceFile)) return read_prices(reference.substr(kPriceFile.size()));
  SecretPtr secret;
  std::string name = reference;
  if (reference.starts_with(kFile)) {
    name = reference.substr(kFile.size());
    auto bytes = read(name);
    if (!bytes) return std::unexpected(name + ": " + bytes.error());
    secret = std::move(*bytes);
  } else {
    name = reference.substr(2, reference.size() - 3);
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::unexpected(name + " is not in the environment");
    secret = std::make_shared<const Secret>(std::string_view(value));
  }
  std::string_view text = secret->view();
  while (!text.empty() && kBlank.find(text.back()) != std::string_view::npos)
    text.remove_suffix(1);
  if (text.empty()) return std::unexpected(name + " is empty");
  for (const char c : text)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f)
      return std::unexpected(name + " is no key: it has spaces or control characters");
  return text.size() == secret->size() ? secret : std::make_shared<const Secret>(text);
}

// In the place of `held`, null: nothing. A file that is there and empty is about to be written, and
// has taken nothing back; one that is gone has.
std::expected<SecretPtr, std::string> read_again(const std::string& reference,
                                                 const SecretPtr& held) {
  auto found = read_secret(reference);
  if (!found || (*found)->size() > 0 || held == nullptr || held->size() == 0) return found;
  const std::string path = reference.substr(reference.find(':') + 1);
  if (::access(path.c_str(), F_OK) != 0) return found;
  return std::unexpected(path + " is empty");
}

// One for each place in a file of prices, where they are.
Problems problems_of(const std::string& reference, const policy::Location& where,
                     const std::string& reason) {
  if (!reference.starts_with(kPriceFile)) return {{where, reason}};
  const std::string path = reference.substr(kPriceFile.size());
  const auto bytes = read_bytes(path);
  if (!bytes) return {{where, bytes.error()}};
  Problems out;
  for (const policy::Diagnostic& one : judge_prices((*bytes)->view(), path))
    out.push_back(
        {one.where, one.hint.empty() ? one.message : one.message + " (" + one.hint + ")"});
  if (out.empty()) out.push_back({where, reason});
  return out;
}

bool same(const KeyPair& a, const KeyPair& b) {
  return *a.cert == *b.cert && *a.key == *b.key;
}

std::string utc(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names)
    out += (out.empty() ? "" : ",") + name;
  return out;
}

// What a policy names, and where it first says so.
struct Wanted {
  std::map<PairName, policy::Location> pairs;
  std::set<PairName> signers;  // of them
  std::map<std::string, policy::Location> authorities;
  std::map<std::string, policy::Location> secrets;
};

void want_secrets(const policy::AiConfig& ai, Wanted& out) {
  for (const policy::AiProvider& provider : ai.providers)
    for (const std::string& key : provider.keys)
      out.secrets.emplace(key, provider.where);
  if (ai.keys == policy::AiKeys::required)
    out.secrets.emplace(std::string(kWholeFile) + ai.key_file, ai.where);
  if (!ai.prices.empty()) out.secrets.emplace(std::string(kPriceFile) + ai.prices, ai.prices_where);
}

// Of what is not for TLS. Without an issuer's keys tokens are refused, which is said by whoever
// takes them.
void want_files(const policy::Config& config, Wanted& out) {
  const auto want = [&out](const std::string& text, const policy::Location& where) {
    if (text.starts_with(kFile))
      out.secrets.emplace(std::string(kFileBytes).append(text, kFile.size()), where);
  };
  for (const policy::Upstream& upstream : config.upstreams)
    if (upstream.sticky) want(upstream.sticky->key, upstream.where);
  if (config.redis) want(config.redis->password, config.redis->where);
  for (const policy::Auth& auth : config.auth)
    if (auth.jwt && !auth.jwt->jwks_file.empty())
      out.secrets.emplace(std::string(kWholeFile) + auth.jwt->jwks_file, auth.where);
}

Wanted wanted_by(const policy::Config& config) {
  Wanted out;
  for (const policy::Listener& listener : config.listeners) {
    if (!listener.tls) continue;
    for (const policy::TlsCertificate& one : listener.tls->certificates)
      out.pairs.emplace(PairName{one.cert, one.key}, one.where);
    if (const auto& authority = listener.tls->authority) {
      const PairName name{authority->pair.cert, authority->pair.key};
      out.pairs.emplace(name, authority->where);
      out.signers.insert(name);
    }
    if (listener.tls->client_auth != policy::ClientAuth::none)
      out.authorities.emplace(listener.tls->client_ca, listener.tls->where);
  }
  for (const policy::Upstream& upstream : config.upstreams) {
    if (!upstream.tls) continue;
    if (upstream.tls->verify) out.authorities.emplace(upstream.tls->ca, upstream.tls->where);
    if (!upstream.tls->cert.empty())
      out.pairs.emplace(PairName{upstream.tls->cert, upstream.tls->key}, upstream.tls->where);
  }
  want_files(config, out);
  if (config.ai) want_secrets(*config.ai, out);
  if (config.kubernetes && !config.kubernetes->clear_text()) {
    out.secrets.emplace(config.kubernetes->token, config.kubernetes->where);
    out.authorities.emplace(config.kubernetes->ca, config.kubernetes->where);
  }
  if (!config.redis || !config.redis->tls) return out;
  const policy::UpstreamTls& redis = *config.redis->tls;
  if (redis.verify) out.authorities.emplace(redis.ca, redis.where);
  if (!redis.cert.empty()) out.pairs.emplace(PairName{redis.cert, redis.key}, redis.where);
  return out;
}

}  // namespace

std::expected<Material, Problems> Files::load(const policy::Config& config) {
  const Wanted wanted = wanted_by(config);
  Material material;
  Problems problems;
  const auto missing = [&](const policy::Location& where, const std::string& reason) {
    problems.push_back({where, reason});
  };
  for (const auto& [name, where] : wanted.pairs) {
    auto found = read_pair(name, use_of(name, wanted.signers));
    const KeyPair* held = current_.find(name.cert, name.key);
    if (found) {
      material.pairs.emplace(name, std::move(found->pair));
    } else if (held != nullptr) {
      say_once(name.cert, found.error());
      material.pairs.emplace(name, *held);
    } else {
      missing(where, found.error());
    }
  }
  for (const auto& [name, where] : wanted.authorities) {
    auto found = read_authority(name);
    const SecretPtr held = current_.authority(name);
    if (found) {
      material.authorities.emplace(name, std::move(*found));
    } else if (held) {
      say_once(name, found.error());
      material.authorities.emplace(name, held);
    } else {
      missing(where, found.error());
    }
  }
  for (const auto& [name, where] : wanted.secrets) {
    const SecretPtr held = current_.secret(name);
    auto found = read_again(name, held);
    if (found) {
      material.secrets.emplace(name, std::move(*found));
    } else if (held) {
      say_once(name, found.error());
      material.secrets.emplace(name, held);
    } else {
      for (Problem& problem : problems_of(name, where, found.error()))
        problems.push_back(std::move(problem));
    }
  }
  if (!problems.empty()) return std::unexpected(std::move(problems));
  return material;
}

void Files::adopt(const policy::Config& config, Material material) {
  const Wanted wanted = wanted_by(config);
  pairs_.clear();
  signers_ = wanted.signers;
  authorities_.clear();
  paths_.clear();
  for (const auto& [name, where] : wanted.pairs) {
    pairs_.insert(name);
    paths_.insert(name.cert);
    if (!name.key.empty()) paths_.insert(name.key);
  }
  for (const auto& [name, where] : wanted.authorities) {
    authorities_.insert(name);
    paths_.insert(path_of(name));
  }
  secrets_.clear();
  for (const auto& [name, where] : wanted.secrets) {
    secrets_.insert(name);
    for (const std::string_view kind : {kFile, kWholeFile, kFileBytes, kPriceFile})
      if (name.starts_with(kind)) paths_.insert(name.substr(kind.size()));
  }
  current_ = std::move(material);
}

bool Files::refresh() {
  bool changed = false;
  for (const PairName& name : pairs_) {
    auto found = read_pair(name, use_of(name, signers_));
    if (!found) {
      say_once(name.cert, found.error());
      continue;
    }
    said_.erase(name.cert);
    KeyPair& held = current_.pairs[name];
    if (same(held, found->pair)) continue;
    held = std::move(found->pair);
    changed = true;
    ++applied_;
    log_info("tls", "certificate replaced",
             {{"certificate", name.cert},
              {"names", joined(found->certificate.names)},
              {"not_after", utc(found->certificate.not_after)}});
  }
  for (const std::string& name : authorities_) {
    auto found = read_authority(name);
    if (!found) {
      say_once(name, found.error());
      continue;
    }
    said_.erase(name);
    SecretPtr& held = current_.authorities[name];
    if (*held == **found) continue;
    held = std::move(*found);
    changed = true;
    ++applied_;
    log_info("tls", "authorities replaced", {{"file", path_of(name)}});
  }
  refresh_secrets(changed);
  return changed;
}

void Files::refresh_secrets(bool& changed) {
  for (const std::string& name : secrets_) {
    auto found = read_again(name, current_.secret(name));
    if (!found) {
      say_once(name, found.error());
      continue;
    }
    said_.erase(name);
    SecretPtr& held = current_.secrets[name];
    if (held && *held == **found) continue;
    held = std::move(*found);
    changed = true;
    ++applied_;
    log_info("tls", "secret replaced", {{"from", name}});
  }
}

void Files::say_once(const std::string& file, const std::string& reason) {
  std::string& said = said_[file];
  if (said == reason) return;
  said = reason;
  ++refused_;
  log_warn("tls", "not taken; what was read before stays in use", {{"reason", reason}});
}

std::vector<MetricSample> Files::samples() const {
  if (paths_.empty()) return {};
  const auto sample = [](const char* result, std::uint64_t value) {
    return MetricSample{
        .name = "sluice_tls_file_reloads_total",
        .help =
            "Certificates and authorities that changed on disk, by what became of them "
            "(refused: half-written or not matching, the old ones stay).",
        .type = SampleType::counter,
        .labels = {{"result", result}},
        .value = static_cast<double>(value)};
  };
  return {sample("applied", applied_), sample("refused", refused_)};
}

}  // namespace sluice::gateway::tls
