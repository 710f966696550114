// Bytes that are wiped when they go: keys never stay behind in freed memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <openssl/crypto.h>
#include <string_view>
#include <vector>

namespace sluice::gateway::tls {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string_view bytes) : bytes_(bytes.begin(), bytes.end()) {}
  explicit Secret(std::vector<char> bytes) : bytes_(std::move(bytes)) {}
  Secret(Secret&& other) noexcept = default;
  Secret& operator=(Secret&& other) noexcept {
    bytes_.swap(other.bytes_);
    return *this;
  }
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() {
    if (!bytes_.empty()) OPENSSL_cleanse(bytes_.data(), bytes_.size());
  }

  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }
  std::size_t size() const { return bytes_.size(); }
  bool operator==(const Secret& other) const { return bytes_ == other.bytes_; }

 private:
  std::vector<char> bytes_;
};
using SecretPtr = std::shared_ptr<const Secret>;

}  // namespace sluice::gateway::tls
