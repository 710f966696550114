#include "policy/cors.h"

#include <algorithm>

#include "policy/ascii.h"

namespace sluice::policy {

namespace {

constexpr std::string_view kAny = "*";

bool is_any(const std::vector<std::string>& values) {
  return std::ranges::find(values, kAny) != values.end();
}

std::string join(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values)
    text += (text.empty() ? "" : ", ") + value;
  return text;
}

// What is sent back as it came must not be able to end a line.
bool is_visible(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

void line(std::string_view name, std::string_view value, std::string& out) {
  out.append(name).append(": ").append(value).append("\r\n");
}

bool is_host_char(char c) {
  const char l = ascii_lower(c);
  return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
         c == ':' || c == '[' || c == ']';
}

}  // namespace

bool is_origin_pattern(std::string_view text) {
  if (text == kAny) return true;
  const std::size_t colon = text.find("://");
  if (colon == 0 || colon == std::string_view::npos) return false;
  std::string_view host = text.substr(colon + 3);
  if (host.starts_with("*.")) host.remove_prefix(2);
  return !host.empty() && std::ranges::all_of(host, is_host_char) &&
         std::ranges::all_of(text.substr(0, colon), [](char c) {
           const char l = ascii_lower(c);
           return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-';
         });
}

CorsPolicy::CorsPolicy(const Cors& config)
    : any_origin_(is_any(config.allow_origins)),
      any_method_(is_any(config.allow_methods)),
      any_header_(is_any(config.allow_headers)),
      credentials_(config.allow_credentials),
      methods_(join(config.allow_methods)),
      headers_(join(config.allow_headers)),
      expose_(join(config.expose_headers)),
      max_age_(std::to_string(config.max_age / 1s)) {
  for (const std::string& origin : config.allow_origins) {
    const std::size_t star = origin.find("://*.");
    if (origin == kAny) continue;
    if (star == std::string::npos) {
      exact_.push_back(origin);
    } else {
      patterns_.push_back({origin.substr(0, star + 3), origin.substr(star + 4)});
    }
  }
}

bool CorsPolicy::allows_origin(std::string_view origin) const noexcept {
  if (origin.empty() || !is_visible(origin)) return false;
  if (any_origin_) return true;
  if (std::ranges::any_of(exact_, [&](const auto& known) { return same_but_for_case(origin, known); })) {
    return true;
  }
  return std::ranges::any_of(patterns_, [&](const Pattern& pattern) {
    // At least one character of a name stands for the star.
    if (origin.size() <= pattern.scheme.size() + pattern.suffix.size()) return false;
    const std::string_view name =
        origin.substr(pattern.scheme.size(),
                      origin.size() - pattern.scheme.size() - pattern.suffix.size());
    return same_but_for_case(origin.substr(0, pattern.scheme.size()), pattern.scheme) &&
           same_but_for_case(origin.substr(origin.size() - pattern.suffix.size()), pattern.suffix) &&
           std::ranges::all_of(name, [](char c) { return is_host_char(c) && c != ':'; });
  });
}

// With credentials a browser takes no `*` (Fetch section 3.2.5).
void CorsPolicy::origin_lines(std::string_view origin, std::string& out) const {
  const bool depends = !any_origin_ || credentials_;
  if (depends) line("vary", "origin", out);
  if (!allows_origin(origin)) return;
  line("access-control-allow-origin", depends ? origin : kAny, out);
  if (credentials_) line("access-control-allow-credentials", "true", out);
}

void CorsPolicy::answer(std::string_view origin, std::string& out) const {
  origin_lines(origin, out);
  if (!expose_.empty() && allows_origin(origin)) {
    line("access-control-expose-headers", expose_, out);
  }
}

void CorsPolicy::preflight(std::string_view origin, std::string_view method,
                           std::string_view headers, std::string& out) const {
  origin_lines(origin, out);
  if (!allows_origin(origin)) return;
  if (any_method_ && credentials_) {
    if (is_visible(method)) line("access-control-allow-methods", method, out);
  } else if (!methods_.empty()) {
    line("access-control-allow-methods", any_method_ ? kAny : std::string_view(methods_), out);
  }
  if (any_header_ && credentials_) {
    if (!headers.empty() && is_visible(headers)) {
      line("access-control-allow-headers", headers, out);
    }
  } else if (!headers_.empty()) {
    line("access-control-allow-headers", any_header_ ? kAny : std::string_view(headers_), out);
  }
  line("access-control-max-age", max_age_, out);
}

}  // namespace sluice::policy
