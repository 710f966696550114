// The name in a ClientHello, without ending TLS (RFC 8446 section 4.1.2, RFC 6066 section 3).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::gateway::tls {

// In a server_name extension; "": there is none in it. Nullopt: it is malformed.
std::optional<std::string_view> host_name_in(std::string_view server_name);

// Pure: bytes in, in any pieces; each is looked at once, whatever the client makes of its records.
class ClientHelloReader {
 public:
  enum class State : std::uint8_t { need_more, complete, not_tls, malformed };
  static constexpr std::size_t kMaxMessage = 64 * 1024;  // many records; post-quantum keys fit well

  // `bytes`: those that follow what was fed before. After `need_more` only.
  State feed(std::string_view bytes);

  // --- complete ---
  // As it was sent; "" if there is none.
  std::string_view server_name() const { return server_name_; }
  // The name is only the outer one: the real one is encrypted (ECH).
  bool encrypted() const { return encrypted_; }

 private:
  static constexpr std::size_t kRecordHeader = 5;
  static constexpr std::size_t kMessageHeader = 4;

  State header_complete();
  State payload(std::string_view& bytes);
  State parse(std::string_view body);
  bool parse_extension(unsigned type, std::string_view data);

  std::string header_;    // of the record under way
  std::size_t left_ = 0;  // of its payload
  std::string message_;   // the handshake message, out of its records
  std::string server_name_;
  bool encrypted_ = false;
};

}  // namespace sluice::gateway::tls
