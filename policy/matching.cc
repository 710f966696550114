#include "policy/matching.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>

namespace sluice::policy {

namespace {

constexpr std::size_t kUsualQuery = 2048;  // bytes

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// application/x-www-form-urlencoded; a broken escape stands for itself.
std::optional<std::string_view> decode(std::string_view text, std::span<char> buffer) {
  std::size_t size = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (size == buffer.size()) return std::nullopt;
    char c = text[i] == '+' ? ' ' : text[i];
    if (c == '%' && i + 2 < text.size()) {
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        c = static_cast<char>(high * 16 + low);
        i += 2;
      }
    }
    buffer[size++] = c;
  }
  return std::string_view(buffer.data(), size);
}

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words)
    all += (all.empty() ? "" : ", ") + word;
  return all;
}

}  // namespace

std::optional<std::string_view> query_parameter(std::string_view query, std::string_view name,
                                                std::span<char> buffer) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    const std::size_t equals = pair.find('=');
    const auto key = decode(pair.substr(0, equals), buffer);
    if (key && *key == name) {
      return decode(equals == std::string_view::npos ? "" : pair.substr(equals + 1), buffer);
    }
    if (end == std::string_view::npos) break;
    query.remove_prefix(end + 1);
  }
  return std::nullopt;
}

ValueMatcher::ValueMatcher(const ValueMatch& match) : match_(match) {
  if (match.kind != ValueMatch::Kind::regex) return;
  if (auto compiled = Regex::compile(match.value)) regex_ = std::move(*compiled);
}

bool ValueMatcher::matches(std::optional<std::string_view> value) const noexcept {
  switch (match_.kind) {
    case ValueMatch::Kind::present:
      return value.has_value();
    case ValueMatch::Kind::absent:
      return !value;
    case ValueMatch::Kind::exact:
      return value && *value == match_.value;
    case ValueMatch::Kind::regex:
      return value && regex_ && regex_->matches(*value);
  }
  return false;
}

std::string ValueMatcher::to_string() const {
  switch (match_.kind) {
    case ValueMatch::Kind::present:
      return match_.name + " present";
    case ValueMatch::Kind::absent:
      return match_.name + " absent";
    case ValueMatch::Kind::exact:
      return match_.name + " = " + match_.value;
    case ValueMatch::Kind::regex:
      return match_.name + " ~ " + match_.value;
  }
  return match_.name;
}

RequestMatcher::RequestMatcher(const Conditions& conditions)
    : methods_(conditions.methods),
      headers_(conditions.headers.begin(), conditions.headers.end()),
      query_(conditions.query.begin(), conditions.query.end()),
      to_(conditions.to),
      to_ports_(conditions.to_ports) {
  empty_ = !names_http() && !names_destination();
}

bool RequestMatcher::matches_methods(const RequestView& request) const noexcept {
  return methods_.empty() || std::ranges::find(methods_, request.method) != methods_.end();
}

const ValueMatcher* RequestMatcher::mismatching_header(const RequestView& request) const noexcept {
  for (const ValueMatcher& header : headers_) {
    const auto value = request.fields ? request.fields->field(header.name()) : std::nullopt;
    if (!header.matches(value)) return &header;
  }
  return nullptr;
}

const ValueMatcher* RequestMatcher::mismatching_parameter(
    const RequestView& request) const noexcept {
  // What does not fit would count as absent. A query has no more bytes decoded than as it came.
  std::array<char, kUsualQuery> usual;
  std::string large;
  std::span<char> buffer(usual);
  if (request.query.size() > usual.size()) {
    large.resize(request.query.size());
    buffer = large;
  }
  for (const ValueMatcher& parameter : query_) {
    if (!parameter.matches(query_parameter(request.query, parameter.name(), buffer))) {
      return &parameter;
    }
  }
  return nullptr;
}

bool RequestMatcher::matches_destination(const RequestView& request) const noexcept {
  if (!names_destination()) return true;
  if (!request.destination) return false;
  const auto holds = [&](const Prefix& prefix) {
    return prefix.contains(request.destination->address);
  };
  const auto has = [&](const PortRange& ports) {
    return ports.contains(request.destination->port);
  };
  return (to_.empty() || std::ranges::any_of(to_, holds)) &&
         (to_ports_.empty() || std::ranges::any_of(to_ports_, has));
}

RequestMatcher::Part RequestMatcher::mismatch(const RequestView& request) const noexcept {
  if (!matches_methods(request)) return Part::method;
  if (mismatching_header(request)) return Part::header;
  if (!query_.empty() && mismatching_parameter(request)) return Part::query;
  if (!matches_destination(request)) return Part::destination;
  return Part::none;
}

std::string RequestMatcher::reason(Part part, const RequestView& request) const {
  switch (part) {
    case Part::none:
      return "matches";
    case Part::method:
      return "method is " + std::string(request.method) + ", not " + joined(methods_);
    case Part::header: {
      const ValueMatcher* header = mismatching_header(request);
      return header ? "header is not: " + header->to_string() : "";
    }
    case Part::query: {
      const ValueMatcher* parameter = mismatching_parameter(request);
      return parameter ? "query is not: " + parameter->to_string() : "";
    }
    case Part::destination:
      return request.destination ? "original destination is " + request.destination->to_string()
                                 : "the connection has no original destination but the listener";
  }
  return "";
}

}  // namespace sluice::policy
