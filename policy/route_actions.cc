#include "policy/route_actions.h"

#include <algorithm>
#include <array>

namespace sluice::policy {

CompiledChanges::CompiledChanges(const FieldChanges& changes) : drop(changes.remove) {
  const auto put = [this](const FieldChange& change) {
    if (auto value = FieldTemplate::parse(change.value)) {
      lines.push_back({change.name, std::move(*value)});
    }
  };
  for (const FieldChange& change : changes.set) {
    drop.push_back(change.name);
    put(change);
  }
  for (const FieldChange& change : changes.add)
    put(change);
}

std::unique_ptr<const CompiledActions> CompiledActions::compile(const Route& route) {
  const RouteActions& actions = route.actions;
  const bool any = !actions.request_headers.empty() || !actions.response_headers.empty() ||
                   actions.rewrite || actions.mirror || actions.compression || actions.answers() || actions.cors || actions.max_body ||
                   actions.max_response_body || !route.auth.empty();
  if (!any) return nullptr;
  auto compiled = std::make_unique<CompiledActions>();
  compiled->request = CompiledChanges(actions.request_headers);
  compiled->response = CompiledChanges(actions.response_headers);
  compiled->mirrors = actions.mirror.has_value();
  if (actions.cors) compiled->cors.emplace(*actions.cors);
  return compiled;
}

void change_path(const PathChange& change, const PathMatch& match, std::string_view path,
                 std::string& out) {
  if (change.kind == PathChange::Kind::none || !path.starts_with('/')) {
    out += path;
    return;
  }
  if (change.kind == PathChange::Kind::full) {
    out += change.value;
    return;
  }
  std::string_view prefix;
  if (match.kind == PathMatch::Kind::prefix) prefix = match.value;
  if (prefix.ends_with('/')) prefix.remove_suffix(1);
  std::string_view instead = change.value;
  if (instead.ends_with('/')) instead.remove_suffix(1);
  const std::string_view rest = path.substr(std::min(prefix.size(), path.size()));
  out.append(instead).append(rest);
  if (instead.empty() && rest.empty()) out += '/';
}

bool is_reserved_field(std::string_view lower_name) {
  static constexpr std::array<std::string_view, 11> kReserved{
      "connection", "content-length",   "expect", "host",    "http2-settings",   "keep-alive",
      "te",         "proxy-connection", "trailer", "upgrade", "transfer-encoding"};
  return std::ranges::find(kReserved, lower_name) != kReserved.end();
}

}  // namespace sluice::policy
