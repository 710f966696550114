#include "policy/ai_providers.h"

#include <algorithm>
#include <string>

#include "policy/auth_url.h"

namespace sluice::policy {

namespace {

std::string_view own_url(AiKind kind) {
  switch (kind) {
    case AiKind::openai:
      return "https://api.openai.com";
    case AiKind::anthropic:
      return "https://api.anthropic.com";
    case AiKind::gemini:
      return "https://generativelanguage.googleapis.com";
    case AiKind::mistral:
      return "https://api.mistral.ai";
    case AiKind::azure:
    case AiKind::compatible:
      break;
  }
  return {};
}

// What stands before `/chat/completions` and the like. Anthropic and Gemini have the version in
// the paths themselves.
std::string_view usual_path(const AiProvider& provider) {
  switch (provider.kind) {
    case AiKind::azure:
      return provider.api_version.empty() ? "/openai/v1" : "/openai";
    case AiKind::anthropic:
    case AiKind::gemini:
      return "";
    case AiKind::openai:
    case AiKind::mistral:
    case AiKind::compatible:
      break;
  }
  return "/v1";
}

std::string without_last_slash(std::string path) {
  while (path.ends_with('/'))
    path.pop_back();
  return path;
}

std::string own_upstream(const AiProvider& provider) {
  return "ai." + provider.name;
}

// What an LLM is, not a web server: slow to begin, and its errors are the model's, not a host's.
void add_upstream(Config& config, AiProvider& provider) {
  constexpr std::uint32_t kAll = kRetryConnectFailure | kRetryReset | kRetry429 | kRetry500 |
                                 kRetry502 | kRetry503 | kRetry504;
  Upstream& upstream = config.upstreams.emplace_back();
  upstream.name = provider.url.upstream = own_upstream(provider);
  upstream.where = provider.where;
  upstream.endpoints.push_back(endpoint_of(provider.url));
  upstream.endpoints.back().where = provider.where;
  if (provider.url.tls) upstream.tls.emplace().where = provider.where;
  upstream.timeouts.connect = provider.timeouts.connect;
  upstream.timeouts.first_byte = provider.timeouts.first_token;
  upstream.outlier_detection.consecutive_5xx = 0;
  upstream.retry = {.retry_on = kAll,
                    .attempts = 1,
                    .back_off = 200ms,
                    .max_back_off = 2s,
                    .max_retry_after = 5s};
}

constexpr std::uint16_t kHttps = 443;

constexpr std::string_view kWatched = "ai.bypass.";

std::string watched_upstream(const std::string& host) {
  return std::string(kWatched) + host;
}

// Nothing is sent there: it has its addresses looked up as every upstream's are.
void add_watched(Config& config, const AiBypass& bypass, const std::string& host) {
  const std::string name = watched_upstream(host);
  if (std::ranges::find(config.upstreams, name, &Upstream::name) != config.upstreams.end()) return;
  Upstream& upstream = config.upstreams.emplace_back();
  upstream.name = name;
  upstream.where = bypass.where;
  Endpoint& endpoint = upstream.endpoints.emplace_back();
  endpoint.dns = host;
  endpoint.port = kHttps;
  endpoint.where = bypass.where;
}

}  // namespace

void complete_ai(Config& config) {
  if (!config.ai) return;
  if (config.ai->key_file.empty()) config.ai->key_file = config.state_dir + "/keys.json";
  if (config.ai->usage.file.empty())
    config.ai->usage.file = gateway_directory(config.state_dir) + "/usage.db";
  for (AiProvider& provider : config.ai->providers) {
    std::string upstream = std::move(provider.url.upstream);
    const std::string_view text =
        provider.base_url.empty() ? own_url(provider.kind) : std::string_view(provider.base_url);
    provider.url = parse_auth_url(text).value_or(AuthUrl{});
    provider.url.upstream = std::move(upstream);
    if (provider.url.authority.empty()) continue;
    provider.url.target = without_last_slash(provider.url.target);
    if (provider.url.target.empty()) provider.url.target = usual_path(provider);
    if (provider.url.upstream.empty()) add_upstream(config, provider);
  }
  if (!config.ai->bypass) return;
  for (const std::string& host : config.ai->bypass->hosts)
    add_watched(config, *config.ai->bypass, host);
}

std::vector<std::string> vendor_upstreams(const AiConfig& ai) {
  std::vector<std::string> names;
  if (!ai.bypass) return names;
  for (const AiProvider& provider : ai.providers)
    if (provider.url.upstream == own_upstream(provider)) names.push_back(provider.url.upstream);
  for (const std::string& host : ai.bypass->hosts)
    names.push_back(watched_upstream(host));
  return names;
}

bool is_watched_upstream(std::string_view name) {
  return name.starts_with(kWatched);
}

std::string gateway_directory(const std::string& state_dir) {
  return state_dir + "/gateway";
}

bool is_secret_reference(std::string_view text) {
  if (text.starts_with("file:")) return text.size() > 5;
  return text.starts_with("${") && text.ends_with('}') && text.size() > 3;
}

}  // namespace sluice::policy
