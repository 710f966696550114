#include "gateway/ai/openai/mistral_ids.h"

#include <algorithm>
#include <cstdint>
#include <functional>

namespace sluice::gateway::ai::openai {
namespace {

constexpr std::size_t kLength = 9;
constexpr std::string_view kAlphabet =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

bool is_fit(std::string_view id) {
  return id.size() == kLength &&
         std::ranges::all_of(id, [](char c) { return kAlphabet.contains(c); });
}

std::string spelled(std::uint64_t number) {
  std::string id(kLength, kAlphabet[0]);
  for (char& digit : id) {
    digit = kAlphabet[number % kAlphabet.size()];
    number /= kAlphabet.size();
  }
  return id;
}

}  // namespace

const std::string& MistralIds::operator()(std::string_view id) {
  auto [entry, is_new] = written_.try_emplace(std::string(id));
  if (!is_new) return entry->second;
  std::string fit(id);
  for (std::uint64_t number = std::hash<std::string_view>{}(id);
       !is_fit(fit) || taken_.contains(fit); ++number)
    fit = spelled(number);
  taken_.insert(fit);
  return entry->second = std::move(fit);
}

}  // namespace sluice::gateway::ai::openai
