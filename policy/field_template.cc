#include "policy/field_template.h"

#include <algorithm>
#include <array>

#include "policy/nearest_name.h"

namespace sluice::policy {

namespace {

constexpr std::array<VariableInfo, 17> kVariables{{
    {"claim.NAME",
     "A verified token's claim or an API key's attribute, such as `%claim.sub%`; "
     "empty where there is none."},
    {"client_cert_fingerprint",
     "SHA-256 of the certificate that the client has shown, hexadecimal; empty where it has shown "
     "none, as the next three."},
    {"client_cert_name", "Its first DNS or URI alternative name, else its common name."},
    {"client_cert_serial", "Its serial number, hexadecimal."},
    {"client_cert_subject", "Its subject, as RFC 2253 writes it: `CN=batch,O=Example`."},
    {"client_ip", "The client's address; behind trusted proxies the one that they say."},
    {"client_port", "The client's port."},
    {"endpoint", "Address and port of the endpoint that was picked; empty where none was."},
    {"host", "The host that was asked for, in lower case, without a port."},
    {"listener", "The listener's name."},
    {"method", "The request's method."},
    {"path", "The path that was matched, without the query."},
    {"request_id", "The request's id, as the log has it and the upstream gets it."},
    {"route", "The route's name."},
    {"scheme",
     "http, or https where the client's connection is under TLS; behind trusted proxies "
     "what they say."},
    {"trace_id", "The id of the request's W3C trace; empty without one."},
    {"upstream", "The upstream's name; empty where none was chosen."},
}};

void append_safe(std::string_view value, std::string& out) {
  for (const char c : value) {
    const auto octet = static_cast<unsigned char>(c);
    out.push_back(octet < 0x20 || octet == 0x7f ? '?' : c);
  }
}

}  // namespace

std::span<const VariableInfo> variables() {
  return kVariables;
}

std::expected<FieldTemplate, std::string> FieldTemplate::parse(std::string_view text) {
  FieldTemplate made;
  std::string literal;
  while (!text.empty()) {
    const std::size_t percent = text.find('%');
    literal.append(text.substr(0, percent));
    if (percent == std::string_view::npos) break;
    text.remove_prefix(percent + 1);
    const std::size_t end = text.find('%');
    if (end == std::string_view::npos) {
      return std::unexpected("a `%` stands alone (did you mean `%%`?)");
    }
    const std::string_view name = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (name.empty()) {
      literal.push_back('%');
      continue;
    }
    constexpr std::string_view kClaim = "claim.";
    if (name.starts_with(kClaim) && name.size() > kClaim.size()) {
      made.pieces_.push_back(
          {std::move(literal), true, Variable::claim, std::string(name.substr(kClaim.size()))});
      literal.clear();
      continue;
    }
    const auto* known = std::ranges::find(kVariables, name, &VariableInfo::name);
    if (known == kVariables.end()) {
      std::vector<std::string_view> names;
      for (const VariableInfo& variable : kVariables)
        names.push_back(variable.name);
      return std::unexpected("there is no variable `%" + std::string(name) + "%` (" +
                             suggestion(name, names) + ")");
    }
    made.pieces_.push_back(
        {std::move(literal), true, static_cast<Variable>(known - kVariables.begin())});
    literal.clear();
  }
  if (!literal.empty()) made.pieces_.push_back({std::move(literal)});
  return made;
}

void FieldTemplate::append_to(std::string& out, const VariableSource& values) const {
  for (const Piece& piece : pieces_) {
    out += piece.text;
    if (piece.has_variable) append_safe(values.variable(piece.variable, piece.argument), out);
  }
}

}  // namespace sluice::policy
