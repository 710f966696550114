#include "policy/compression.h"

#include <algorithm>
#include <array>

#include "policy/ascii.h"

namespace sluice::policy {

namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

template <typename Take>
void each(std::string_view list, char separator, Take take) {
  while (true) {
    const std::size_t end = list.find(separator);
    take(trim(list.substr(0, end)));
    if (end == std::string_view::npos) return;
    list.remove_prefix(end + 1);
  }
}

// qvalue in thousandths (RFC 9110 section 12.4.2); what is none counts as not acceptable.
int quality(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) return 0;
  int value = (text[0] - '0') * 1000;
  if (text.size() == 1) return value;
  if (text[1] != '.') return 0;
  int unit = 100;
  for (const char c : text.substr(2)) {
    if (c < '0' || c > '9') return 0;
    value += (c - '0') * unit;
    unit /= 10;
  }
  return std::min(value, 1000);
}

}  // namespace

std::optional<Coding> choose_coding(const Compression& config, std::string_view accept) {
  // Thousandths, by Coding; -1: not named.
  std::array<int, 2> qualities{-1, -1};
  int any = -1;
  int identity = -1;
  each(accept, ',', [&](std::string_view element) {
    const std::size_t semicolon = element.find(';');
    const std::string_view name = trim(element.substr(0, semicolon));
    int q = 1000;
    if (semicolon != std::string_view::npos) {
      each(element.substr(semicolon + 1), ';', [&](std::string_view parameter) {
        if (parameter.size() > 2 && ascii_lower(parameter[0]) == 'q' && parameter[1] == '=') {
          q = quality(parameter.substr(2));
        }
      });
    }
    if (same_but_for_case(name, "br")) qualities[static_cast<std::size_t>(Coding::br)] = q;
    if (same_but_for_case(name, "gzip") || same_but_for_case(name, "x-gzip")) {
      qualities[static_cast<std::size_t>(Coding::gzip)] = q;
    }
    if (name == "*") any = q;
    if (same_but_for_case(name, "identity")) identity = q;
  });
  std::optional<Coding> best;
  int best_quality = 0;
  for (const Coding coding : config.algorithms) {
    int q = qualities[static_cast<std::size_t>(coding)];
    if (q < 0) q = std::max(any, 0);
    if (q <= best_quality) continue;
    best = coding;
    best_quality = q;
  }
  return best_quality < identity ? std::nullopt : best;
}

bool is_never_compressed(std::string_view type) {
  return same_but_for_case(type, "text/event-stream") ||
         same_but_for_case(type.substr(0, 16), "application/grpc");
}

bool is_compressible(const Compression& config, std::string_view content_type) {
  const std::string_view type = trim(content_type.substr(0, content_type.find(';')));
  if (is_never_compressed(type)) return false;
  return std::ranges::any_of(config.types, [&](const std::string& known) {
    if (!known.ends_with("/*")) return same_but_for_case(type, known);
    const std::string_view kind = std::string_view(known).substr(0, known.size() - 1);
    return same_but_for_case(type.substr(0, kind.size()), kind);
  });
}

bool has_directive(std::string_view cache_control, std::string_view lower_name) {
  bool found = false;
  each(cache_control, ',', [&](std::string_view directive) {
    found |= same_but_for_case(trim(directive.substr(0, directive.find('='))), lower_name);
  });
  return found;
}

}  // namespace sluice::policy
