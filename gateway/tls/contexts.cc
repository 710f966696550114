#include "gateway/tls/contexts.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <openssl/evp.h>

namespace sluice::gateway::tls {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new()) {
    EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
  }

  template <typename... T>
  void all(const T&... values) {
    (add(values), ...);
  }
  std::string end() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), bytes.data(), &size);
    return {reinterpret_cast<const char*>(bytes.data()), size};
  }

 private:
  template <typename T>
  requires std::integral<T> || std::is_enum_v<T>
  void add(const T& value) {
    const auto number = static_cast<std::uint64_t>(value);
    EVP_DigestUpdate(context_.get(), &number, sizeof number);
  }
  void add(std::string_view text) {
    add(text.size());
    EVP_DigestUpdate(context_.get(), text.data(), text.size());
  }
  void add(const SecretPtr& bytes) { add(bytes ? bytes->view() : std::string_view()); }
  void add(const KeyPair* pair) {
    if (pair != nullptr) all(pair->cert, pair->key);
  }

  std::unique_ptr<EVP_MD_CTX, FreeBy<EVP_MD_CTX_free>> context_;
};

std::string ingredients_of(const policy::Listener& listener, const Material& material) {
  const policy::ListenerTls& tls = *listener.tls;
  Digest digest;
  digest.all(std::string_view(listener.name), listener.protocol, tls.min_version,
             std::string_view(tls.ciphers), tls.strict_sni, tls.client_auth,
             material.authority(tls.client_ca), tls.certificates.size());
  for (const policy::Alpn protocol : tls.alpn)
    digest.all(protocol);
  for (const policy::TlsCertificate& certificate : tls.certificates)
    digest.all(std::string_view(certificate.cert),
               material.find(certificate.cert, certificate.key));
  if (!tls.authority) return digest.end();
  const policy::TlsCertificate& own = tls.authority->pair;
  digest.all(std::string_view(own.cert), material.find(own.cert, own.key));
  for (const std::string& host : tls.authority->hosts)
    digest.all(std::string_view(host));
  return digest.end();
}

std::string ingredients_of(const policy::Upstream& upstream, const Material& material) {
  const policy::UpstreamTls& tls = *upstream.tls;
  Digest digest;
  digest.all(upstream.protocol, std::string_view(tls.sni), tls.verify, tls.min_version,
             material.authority(tls.ca), material.find(tls.cert, tls.key));
  return digest.end();
}

// The entry of one object with `tls`; empty without.
template <typename Entry, typename Object, typename Create>
Entry entry_of(const Object& object, const Material& material, const std::vector<Entry>* before,
               Problems& problems, Create create) {
  if (!object.tls) return {};
  Entry entry{.ingredients = ingredients_of(object, material), .context = {}};
  if (before != nullptr) {
    const auto same = std::ranges::find(*before, entry.ingredients, &Entry::ingredients);
    if (same != before->end()) return *same;
  }
  if (auto made = create()) {
    entry.context = std::move(*made);
  } else {
    problems.push_back({object.tls->where, object.name + ": tls: " + made.error()});
  }
  return entry;
}

// Of a server that is no upstream.
template <typename Entry>
Entry client_entry(const char* name, const policy::UpstreamTls& tls, const Material& material,
                   const Entry* before, Problems& problems) {
  policy::Upstream server;
  server.name = name;
  server.tls = tls;
  const std::vector<Entry> known{before == nullptr ? Entry() : *before};
  return entry_of(server, material, &known, problems,
                  [&] { return ClientContext::create(server, material); });
}

policy::UpstreamTls tls_of(const policy::KubernetesConfig& kubernetes) {
  policy::UpstreamTls tls;
  tls.ca = kubernetes.ca;
  tls.where = kubernetes.where;
  return tls;
}

}  // namespace

std::expected<std::shared_ptr<const Contexts>, Problems> Contexts::build(
    const policy::Config& config, const Material& material, const TicketKeys& tickets,
    const Contexts* before) {
  auto self = std::make_shared<Contexts>();
  Problems problems;
  for (const policy::Listener& listener : config.listeners) {
    self->listeners_.push_back(
        entry_of(listener, material, before == nullptr ? nullptr : &before->listeners_, problems,
                 [&] { return ServerContext::create(listener, material, tickets); }));
  }
  for (const policy::Upstream& upstream : config.upstreams) {
    self->upstreams_.push_back(entry_of(upstream, material,
                                        before == nullptr ? nullptr : &before->upstreams_, problems,
                                        [&] { return ClientContext::create(upstream, material); }));
  }
  if (config.redis && config.redis->tls)
    self->redis_ = client_entry("cluster.redis", *config.redis->tls, material,
                                before == nullptr ? nullptr : &before->redis_, problems);
  if (config.kubernetes && !config.kubernetes->clear_text())
    self->kubernetes_ = client_entry("kubernetes", tls_of(*config.kubernetes), material,
                                     before == nullptr ? nullptr : &before->kubernetes_, problems);
  if (!problems.empty()) return std::unexpected(std::move(problems));
  return self;
}

std::shared_ptr<const Contexts> Contexts::without(const policy::Config& config) {
  auto self = std::make_shared<Contexts>();
  self->listeners_.resize(config.listeners.size());
  self->upstreams_.resize(config.upstreams.size());
  return self;
}

}  // namespace sluice::gateway::tls
