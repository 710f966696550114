#include "gateway/ai/proxy/caller_key.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "gateway/http1/field.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::ai {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

// Of several lines of that name, none: two readers could take different ones. `id`: the name's.
std::string_view only(const http1::FieldTable& fields, std::string_view lower_name,
                      http1::KnownField id = http1::KnownField::unknown) {
  std::string_view value;
  std::size_t lines = 0;
  for (const http1::Field field : fields) {
    if (field.id != id) continue;
    if (id == http1::KnownField::unknown && !http1::equals_ignoring_case(field.name, lower_name)) {
      continue;
    }
    value = field.value;
    ++lines;
  }
  return lines == 1 ? value : std::string_view();
}

std::string_view in_query(std::string_view query) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view parameter = query.substr(0, end);
    if (parameter.starts_with("key=")) return parameter.substr(4);
    if (end == std::string_view::npos) break;
    query.remove_prefix(end + 1);
  }
  return {};
}

// A limit as the headers have it.
struct Shown {
  std::string limit;
  std::string remaining;
  std::uint64_t reset_ns = 0;
};

void openai_lines(std::string_view what, const Shown& rate, std::string& out) {
  const auto line = [&](std::string_view name, const std::string& value) {
    out.append("x-ratelimit-").append(name).append("-").append(what).append(": ");
    out.append(value).append("\r\n");
  };
  line("limit", rate.limit);
  line("remaining", rate.remaining);
  line("reset", std::to_string(rate.reset_ns / 1'000'000) + "ms");
}

void anthropic_lines(std::string_view what, const Shown& rate, std::int64_t unix_seconds,
                     std::string& out) {
  const std::time_t reset =
      unix_seconds + static_cast<std::int64_t>((rate.reset_ns + kSecond - 1) / kSecond);
  std::tm parts{};
  ::gmtime_r(&reset, &parts);
  char text[32];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  const auto line = [&](std::string_view name, std::string_view value) {
    out.append("anthropic-ratelimit-").append(what).append("-").append(name).append(": ");
    out.append(value).append("\r\n");
  };
  line("limit", rate.limit);
  line("remaining", rate.remaining);
  line("reset", {text, size});
}

void lines_of(Shape shape, std::string_view what, const Shown& rate, std::int64_t unix_seconds,
              std::string& out) {
  if (shape == Shape::anthropic) return anthropic_lines(what, rate, unix_seconds, out);
  openai_lines(what, rate, out);
}

}  // namespace

std::string_view shown_key(const http1::RequestHead& caller) {
  constexpr std::string_view kBearer = "bearer ";
  const http1::FieldTable& fields = caller.fields();
  const std::string_view authorization =
      only(fields, "authorization", http1::KnownField::authorization);
  if (http1::equals_ignoring_case(authorization.substr(0, kBearer.size()), kBearer))
    return http1::trim_ows(authorization.substr(kBearer.size()));
  for (const std::string_view name : {"x-api-key", "api-key", "x-goog-api-key"})
    if (const std::string_view value = only(fields, name); !value.empty()) return value;
  return in_query(caller.query());
}

std::string rate_lines(Shape shape, const KeyRate& requests, const KeyRate& tokens,
                       std::int64_t unix_seconds) {
  std::string out;
  const auto lines = [&](std::string_view what, const KeyRate& rate) {
    if (rate.limit == 0) return;
    lines_of(shape, what,
             {std::to_string(rate.limit), std::to_string(rate.remaining), rate.reset_ns},
             unix_seconds, out);
  };
  lines("requests", requests);
  lines("tokens", tokens);
  return out;
}

void append_budget_lines(Shape shape, std::int64_t limit, std::int64_t left, std::int64_t ends,
                         std::int64_t unix_seconds, std::string& out) {
  const auto dollars = [](std::int64_t micros) {
    char text[40];
    std::snprintf(text, sizeof text, "%.6f",
                  static_cast<double>(std::max<std::int64_t>(micros, 0)) / 1e6);
    return std::string(text);
  };
  const auto until = static_cast<std::uint64_t>(std::max<std::int64_t>(ends - unix_seconds, 0));
  lines_of(shape, "dollars", {dollars(limit), dollars(left), until * kSecond}, unix_seconds, out);
}

}  // namespace sluice::gateway::ai
