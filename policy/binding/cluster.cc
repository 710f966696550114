// From the tree to `cluster`.
#include <charconv>

#include "policy/binding/read.h"
#include "policy/binding/sections.h"
#include "policy/schema.h"

namespace sluice::policy::binding {

namespace {

// redis://address:port[/database]. What does not fit leaves the port 0, which cross_check() tells.
void url(std::string_view text, RedisConfig& out) {
  constexpr std::string_view kScheme = "redis://";
  constexpr std::uint32_t kMostDatabases = 16;
  if (!text.starts_with(kScheme)) return;
  text.remove_prefix(kScheme.size());
  const std::size_t slash = text.find('/');
  const auto address = SocketAddress::parse(text.substr(0, slash));
  if (!address) return;
  if (slash != std::string_view::npos && slash + 1 < text.size()) {
    const std::string_view number = text.substr(slash + 1);
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), out.database);
    if (error != std::errc{} || end != number.data() + number.size() ||
        out.database >= kMostDatabases) {
      return;
    }
  }
  out.address = *address;
}

}  // namespace

void cluster(const Node& node, const Reporter& reporter, std::optional<RedisConfig>& out) {
  const Node* redis = node.find("redis");
  if (!redis) return;
  RedisConfig& made = out.emplace();
  made.where = reporter.locate(redis->where());
  if (const Node* text = redis->find("url")) url(text->text, made);
  optional(*redis, "username", made.username);
  optional(*redis, "password", made.password);
  optional(*redis, "prefix", made.prefix);
  optional_word(*redis, "on_loss", kOnLossWords, made.on_loss);
  optional(*redis, "deadline", made.deadline);
}

}  // namespace sluice::policy::binding
