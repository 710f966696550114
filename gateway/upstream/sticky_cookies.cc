#include "gateway/upstream/sticky_cookies.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <span>

#include "gateway/log.h"
#include "policy/hexadecimal.h"

namespace sluice::gateway {
namespace {

constexpr std::size_t kShortestKey = 16;
constexpr std::size_t kValueBytes = 16;  // of the HMAC; 128 bits cannot be guessed

// Wiped when it goes.
class Key {
 public:
  explicit Key(std::string text) : text_(std::move(text)) {}
  ~Key() { OPENSSL_cleanse(text_.data(), text_.size()); }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string own_key() {
  std::string key(32, '\0');
  RAND_bytes(reinterpret_cast<unsigned char*>(key.data()), static_cast<int>(key.size()));
  return key;
}

// One for the process, so that a reload does not end what lasts without a key.
const std::string& process_key() {
  static const std::string key = own_key();
  return key;
}

std::string usable_key(const policy::Sticky& config, std::string_view upstream) {
  if (config.key.size() >= kShortestKey) return config.key;
  log_error(
      "upstream", "sticky.key cannot be used: clients lose their endpoint at a restart",
      {{"upstream", std::string(upstream)},
       {"error", config.key.empty() ? "its file is missing or empty" : "shorter than 16 bytes"}});
  return process_key();
}

std::string hex_hmac(const std::string& key, std::string_view upstream, std::string_view endpoint) {
  std::string text(upstream);
  text.push_back('\0');
  text += endpoint;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), &size);
  return policy::to_hexadecimal(std::span(digest).first<kValueBytes>());
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

}  // namespace

StickyCookies::StickyCookies(const policy::Sticky& config, std::string_view upstream,
                             std::span<const std::string_view> endpoints)
    : config_(config) {
  const Key key(usable_key(config, upstream));
  config_.key.clear();  // not kept longer than needed
  std::string tail = "; Path=/; HttpOnly; SameSite=Lax";
  if (config.max_age.count() > 0) {
    tail +=
        "; Max-Age=" +
        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(config.max_age).count());
  }
  for (std::uint32_t i = 0; i < endpoints.size(); ++i) {
    std::string value = hex_hmac(key.text(), upstream, endpoints[i]);
    lines_.push_back(config.cookie + "=" + value + tail);
    by_value_.emplace(std::move(value), i);
  }
}

std::optional<std::uint32_t> StickyCookies::find(std::string_view value) const {
  const auto found = by_value_.find(value);
  if (found == by_value_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string_view> cookie_value(std::string_view field, std::string_view name) {
  while (!field.empty()) {
    // Several lines of the field are joined by commas, which no cookie may hold.
    const std::size_t end = std::min(field.find_first_of(";,"), field.size());
    const std::string_view pair = trimmed(field.substr(0, end));
    field.remove_prefix(std::min(end + 1, field.size()));
    if (!pair.starts_with(name) || pair.size() <= name.size() || pair[name.size()] != '=') continue;
    std::string_view value = pair.substr(name.size() + 1);
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    return value;
  }
  return std::nullopt;
}

}  // namespace sluice::gateway
