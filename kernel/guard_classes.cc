#include "kernel/guard_classes.h"

namespace sluice::kernel {

void RuleBits::set(Words& words, std::size_t rule, bool on) {
  const std::uint64_t bit = 1ULL << (rule % 64);
  if (on) {
    words[rule / 64] |= bit;
  } else {
    words[rule / 64] &= ~bit;
  }
}

sluice_guard_class to_class(const RuleBits& bits) {
  sluice_guard_class out{};
  for (std::size_t w = 0; w < SLUICE_GUARD_WORDS; ++w) {
    out.word[w].match = bits.match[w];
    out.word[w].except = bits.except[w];
    if (bits.match[w] != 0) out.live |= 1ULL << w;
  }
  return out;
}

bool has_exception(const GuardRule& rule) {
  const GuardMatch& except = rule.except;
  return has_field(except, kFromField) || has_field(except, kToField) ||
         !except.from_ports.empty() || !except.to_ports.empty();
}

std::uint32_t GuardClasses::id_of(const RuleBits& bits) {
  const auto [at, added] = ids_.try_emplace(bits, static_cast<std::uint32_t>(list_.size()));
  if (added) list_.push_back(to_class(bits));
  return at->second;
}

std::size_t GuardClasses::Hash::operator()(const RuleBits& bits) const {
  std::uint64_t hash = 1469598103934665603ULL;
  for (const auto* words : {&bits.match, &bits.except}) {
    for (const std::uint64_t word : *words)
      hash = (hash ^ word ^ (word >> 32)) * 1099511628211ULL;
  }
  return hash;
}

}  // namespace sluice::kernel
