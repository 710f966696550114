#include "gateway/ai/proxy/virtual_keys.h"

#include <algorithm>
#include <memory>
#include <openssl/evp.h>
#include <optional>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "policy/hexadecimal.h"
#include "policy/schema/ai_controls.h"

namespace sluice::gateway::ai {
namespace {

namespace json = boost::json;

constexpr std::string_view kNotOurs = "is not a file of virtual keys";

std::string text_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

std::int64_t number_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  const std::int64_t* number = value != nullptr ? value->if_int64() : nullptr;
  return number != nullptr && *number > 0 ? *number : 0;
}

std::optional<VirtualKey> read_key(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  VirtualKey key;
  key.id = text_in(*object, "id");
  key.name = text_in(*object, "name");
  key.owner = text_in(*object, "owner");
  key.team = text_in(*object, "team");
  const auto hash = policy::parse_hexadecimal<32>(text_in(*object, "sha256"));
  if (key.id.empty() || !hash) return std::nullopt;
  key.sha256 = *hash;
  if (const json::value* models = object->if_contains("models"); models && models->is_array())
    for (const json::value& model : models->get_array())
      if (model.is_string()) key.models.emplace_back(model.get_string());
  key.created = number_in(*object, "created");
  key.expires = number_in(*object, "expires");
  const auto count = [&](std::string_view name) {
    return static_cast<std::uint64_t>(number_in(*object, name));
  };
  key.requests_per_minute = count("requests_per_minute");
  key.tokens_per_minute = count("tokens_per_minute");
  key.tokens_per_day = count("tokens_per_day");
  key.budget = number_in(*object, "budget_micro_usd");
  const auto period = std::ranges::find(policy::kAiPeriodWords, text_in(*object, "budget_period"));
  if (period != policy::kAiPeriodWords.end())
    key.period = static_cast<policy::AiPeriod>(period - policy::kAiPeriodWords.begin());
  return key;
}

json::object written(const VirtualKey& key) {
  json::object out{{"id", key.id}, {"name", key.name}, {"sha256", policy::to_hexadecimal(key.sha256)}};
  if (!key.owner.empty()) out["owner"] = key.owner;
  if (!key.team.empty()) out["team"] = key.team;
  if (!key.models.empty()) out["models"] = json::array(key.models.begin(), key.models.end());
  out["created"] = key.created;
  if (key.expires > 0) out["expires"] = key.expires;
  const auto count = [&](std::string_view name, std::uint64_t value) {
    if (value > 0) out[name] = static_cast<std::int64_t>(value);
  };
  count("requests_per_minute", key.requests_per_minute);
  count("tokens_per_minute", key.tokens_per_minute);
  count("tokens_per_day", key.tokens_per_day);
  if (key.budget > 0) {
    out["budget_micro_usd"] = key.budget;
    out["budget_period"] = policy::kAiPeriodWords[static_cast<std::size_t>(key.period)];
  }
  return out;
}

}  // namespace

bool VirtualKey::may_use(std::string_view model) const {
  return models.empty() || std::ranges::any_of(models, [&](std::string_view pattern) {
           if (!pattern.ends_with('*')) return pattern == model;
           return model.starts_with(pattern.substr(0, pattern.size() - 1));
         });
}

// OpenSSL looks an algorithm up, and makes a context for it, at each call that is not given them;
// that costs more than the hash. Nothing of the key stays in the context (its block is wiped).
std::array<std::uint8_t, 32> hash_of_key(std::string_view key) {
  static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
  const EVP_MD* const sha256 = fetched != nullptr ? fetched : EVP_sha256();
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  thread_local const std::unique_ptr<EVP_MD_CTX, Free> context(EVP_MD_CTX_new());
  std::array<std::uint8_t, 32> digest{};
  EVP_DigestInit_ex2(context.get(), sha256, nullptr);
  EVP_DigestUpdate(context.get(), key.data(), key.size());
  EVP_DigestFinal_ex(context.get(), digest.data(), nullptr);
  return digest;
}

std::expected<std::vector<VirtualKey>, std::string> parse_keys(std::string_view text) {
  std::vector<VirtualKey> keys;
  if (text.empty()) return keys;
  boost::system::error_code error;
  const json::value all = json::parse(text, error);
  const json::object* object = error ? nullptr : all.if_object();
  const json::value* list = object != nullptr ? object->if_contains("keys") : nullptr;
  if (list == nullptr || !list->is_array() || number_in(*object, "version") != 1)
    return std::unexpected(std::string(kNotOurs));
  for (const json::value& value : list->get_array()) {
    auto key = read_key(value);
    if (!key) return std::unexpected(std::string(kNotOurs));
    keys.push_back(std::move(*key));
  }
  return keys;
}

std::string write_keys(const std::vector<VirtualKey>& keys) {
  json::array list;
  for (const VirtualKey& key : keys)
    list.push_back(written(key));
  return json::serialize(json::object{{"version", 1}, {"keys", std::move(list)}}) + "\n";
}

}  // namespace sluice::gateway::ai
