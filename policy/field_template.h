// Values of header fields with variables: "%client_ip%" in a text stands for the client's address,
// "%%" for "%".
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::policy {

enum class Variable : std::uint8_t {
  claim,
  client_cert_fingerprint,
  client_cert_name,
  client_cert_serial,
  client_cert_subject,
  client_ip,
  client_port,
  endpoint,
  host,
  listener,
  method,
  path,
  request_id,
  route,
  scheme,
  trace_id,
  upstream,
};

struct VariableInfo {
  std::string_view name;
  std::string_view doc;
};
// In the order of the enumerators; for the reference.
std::span<const VariableInfo> variables();

// What the variables stand for in one exchange.
class VariableSource {
 public:
  // "" where it is not known (yet). Valid until the next call. `argument`: of a claim, its name.
  virtual std::string_view variable(Variable name, std::string_view argument) const = 0;

 protected:
  ~VariableSource() = default;
};

class FieldTemplate {
 public:
  // The error says what is wrong, and continues "…: ".
  static std::expected<FieldTemplate, std::string> parse(std::string_view text);

  // Appends the value. What the variables stand for may come from a client: bytes that would end
  // the line, and other controls, become '?'. Allocates only where `out` has no room.
  void append_to(std::string& out, const VariableSource& values) const;

 private:
  struct Piece {
    std::string text;  // before the variable
    bool has_variable = false;
    Variable variable = Variable::client_ip;
    std::string argument{};
  };
  std::vector<Piece> pieces_;
};

}  // namespace sluice::policy
