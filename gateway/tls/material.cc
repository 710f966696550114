#include "gateway/tls/material.h"

#include <cstdint>
#include <optional>

namespace sluice::gateway::tls {
namespace {

constexpr std::string_view kMagic = "sluice-tls-material 1\n";
enum class Kind : char { pair = 'p', authority = 'a', secret = 's', ticket_key = 't' };

void put(std::vector<char>& out, std::string_view text) {
  const auto size = static_cast<std::uint32_t>(text.size());
  for (int shift = 0; shift < 32; shift += 8)
    out.push_back(static_cast<char>(size >> shift));
  out.insert(out.end(), text.begin(), text.end());
}

std::size_t size_of(std::initializer_list<std::string_view> texts) {
  std::size_t size = 1;
  for (const std::string_view text : texts)
    size += text.size() + sizeof(std::uint32_t);
  return size;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}

  bool done() const { return left_.empty(); }
  char kind() {
    const char kind = left_.front();
    left_.remove_prefix(1);
    return kind;
  }
  std::optional<std::string_view> text() {
    std::uint32_t size = 0;
    if (left_.size() < sizeof size) return std::nullopt;
    for (int i = 0; i < 4; ++i)
      size |= std::uint32_t{static_cast<unsigned char>(left_[static_cast<std::size_t>(i)])}
              << (8 * i);
    left_.remove_prefix(sizeof size);
    if (size > left_.size()) return std::nullopt;
    const std::string_view text = left_.substr(0, size);
    left_.remove_prefix(size);
    return text;
  }

 private:
  std::string_view left_;
};

bool read_pair(Reader& reader, Material& out) {
  const auto cert_name = reader.text();
  const auto key_name = reader.text();
  const auto cert = reader.text();
  const auto key = reader.text();
  if (!key) return false;
  KeyPair pair{.cert = std::make_shared<Secret>(*cert), .key = {}};
  pair.key = key_name->empty() ? pair.cert : std::make_shared<Secret>(*key);
  out.pairs.emplace(PairName{std::string(*cert_name), std::string(*key_name)}, std::move(pair));
  return true;
}

using Named = std::map<std::string, SecretPtr, std::less<>>;

bool read_named(Reader& reader, Named& out) {
  const auto name = reader.text();
  const auto bytes = reader.text();
  if (!bytes) return false;
  out.emplace(*name, std::make_shared<Secret>(*bytes));
  return true;
}

SecretPtr find_in(const Named& named, std::string_view name) {
  const auto found = named.find(name);
  return found == named.end() ? nullptr : found->second;
}

bool read_ticket_key(Reader& reader, Material& out) {
  const auto key = reader.text();
  if (!key) return false;
  out.ticket_keys.push_back(std::make_shared<Secret>(*key));
  return true;
}

}  // namespace

const KeyPair* Material::find(const std::string& cert, const std::string& key) const {
  const auto found = pairs.find(PairName{cert, key});
  return found == pairs.end() ? nullptr : &found->second;
}

SecretPtr Material::authority(std::string_view path) const {
  return find_in(authorities, path);
}

SecretPtr Material::secret(std::string_view reference) const {
  return find_in(secrets, reference);
}

Secret serialize(const Material& material) {
  std::size_t size = kMagic.size();
  for (const auto& [name, pair] : material.pairs)
    size += size_of({name.cert, name.key, pair.cert->view(), pair.key->view()});
  for (const auto& [path, pem] : material.authorities)
    size += size_of({path, pem->view()});
  for (const auto& [name, bytes] : material.secrets)
    size += size_of({name, bytes->view()});
  for (const SecretPtr& key : material.ticket_keys)
    size += size_of({key->view()});

  std::vector<char> out;
  out.reserve(size);  // a move to a larger block would leave keys behind
  out.insert(out.end(), kMagic.begin(), kMagic.end());
  for (const auto& [name, pair] : material.pairs) {
    out.push_back(static_cast<char>(Kind::pair));
    put(out, name.cert);
    put(out, name.key);
    put(out, pair.cert->view());
    put(out, name.key.empty() ? std::string_view() : pair.key->view());
  }
  for (const auto& [path, pem] : material.authorities) {
    out.push_back(static_cast<char>(Kind::authority));
    put(out, path);
    put(out, pem->view());
  }
  for (const auto& [name, bytes] : material.secrets) {
    out.push_back(static_cast<char>(Kind::secret));
    put(out, name);
    put(out, bytes->view());
  }
  for (const SecretPtr& key : material.ticket_keys) {
    out.push_back(static_cast<char>(Kind::ticket_key));
    put(out, key->view());
  }
  return Secret(std::move(out));
}

std::expected<MaterialPtr, std::string> deserialize(std::string_view bytes) {
  const auto malformed = std::unexpected(std::string("TLS material: not what the keeper sends"));
  if (!bytes.starts_with(kMagic)) return malformed;
  Reader reader(bytes.substr(kMagic.size()));
  auto material = std::make_shared<Material>();
  while (!reader.done()) {
    bool whole = false;
    switch (Kind(reader.kind())) {
      case Kind::pair:
        whole = read_pair(reader, *material);
        break;
      case Kind::authority:
        whole = read_named(reader, material->authorities);
        break;
      case Kind::secret:
        whole = read_named(reader, material->secrets);
        break;
      case Kind::ticket_key:
        whole = read_ticket_key(reader, *material);
        break;
    }
    if (!whole) return malformed;
  }
  return material;
}

}  // namespace sluice::gateway::tls
