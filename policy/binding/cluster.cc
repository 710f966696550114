// From the tree to `cluster`.
#include <charconv>

#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/host.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

void host(std::string_view text, RedisConfig& out) {
  if (const auto address = SocketAddress::parse(text)) {
    out.address = *address;
    return;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return;
  const auto name = normalise_host_pattern(text.substr(0, colon));
  const auto port = PortRange::parse(text.substr(colon + 1));
  const bool plain = name && !name->starts_with('*') && !name->starts_with('[');
  if (!plain || !port || port->first != port->last) return;
  out.name = *name;
  out.address.port = port->first;
}

// redis[s]://host:port[/database]. What does not fit leaves the port 0, which cross_check() tells.
void url(std::string_view text, RedisConfig& out) {
  constexpr std::string_view kPlain = "redis://";
  constexpr std::string_view kTls = "rediss://";
  constexpr std::uint32_t kMostDatabases = 16;
  if (text.starts_with(kTls)) out.tls.emplace().where = out.where;
  if (!out.tls && !text.starts_with(kPlain)) return;
  text.remove_prefix(out.tls ? kTls.size() : kPlain.size());
  const std::size_t slash = text.find('/');
  if (slash != std::string_view::npos && slash + 1 < text.size()) {
    const std::string_view number = text.substr(slash + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), out.database);
    if (error != std::errc{} || end != number.data() + number.size() ||
        out.database >= kMostDatabases) {
      return;
    }
  }
  host(text.substr(0, slash), out);
}

}  // namespace

void cluster(const Node& node, const Reporter& reporter, std::optional<RedisConfig>& out) {
  const Node* redis = node.find("redis");
  if (!redis) return;
  RedisConfig& made = out.emplace();
  made.where = reporter.locate(redis->where());
  if (const Node* text = redis->find("url")) url(text->text, made);
  if (const Node* tls = redis->find("tls")) {
    made.tls_given = true;
    if (made.tls) upstream_tls(*tls, reporter, *made.tls);
  }
  optional(*redis, "username", made.username);
  optional(*redis, "password", made.password);
  optional(*redis, "prefix", made.prefix);
  optional_word(*redis, "on_loss", kOnLossWords, made.on_loss);
  optional(*redis, "deadline", made.deadline);
}

}  // namespace sluice::policy::binding
