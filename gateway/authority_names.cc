#include "gateway/authority_names.h"

#include <algorithm>
#include <utility>

namespace sluice::gateway {

using policy::AuthorityVerdict;

AuthorityVerdict AuthorityNames::Name::verdict(const policy::IpAddress& address,
                                               SteadyTime now) const {
  const bool known = std::ranges::any_of(
      addresses, [&](const Address& one) { return one.address == address && one.until > now; });
  if (known) return AuthorityVerdict::verified;
  return failed ? AuthorityVerdict::unresolved : AuthorityVerdict::mismatch;
}

std::optional<AuthorityVerdict> AuthorityNames::check(const policy::AuthorityClaim& claim,
                                                      AuthorityWaiter& waiter, SteadyTime now) {
  if (const auto verdict = policy::judge(claim)) return verdict;
  const policy::IpAddress& address = claim.destination.address;
  const DnsType type = address.is_v4() ? DnsType::a : DnsType::aaaa;
  Names& names = names_of(type);
  const auto found = names.find(claim.host);
  Name* entry = found != names.end() ? &found->second : make_room_and_add(names, claim.host);
  if (entry == nullptr) return AuthorityVerdict::unresolved;
  const AuthorityVerdict verdict = entry->verdict(address, now);
  if (verdict == AuthorityVerdict::verified) {
    if (entry->fresh_until <= now) ask(claim.host, type, *entry, now);
    return verdict;
  }
  const bool just_asked = entry->asked != SteadyTime{} && now - entry->asked < kAskAgain;
  if (!entry->asking && (just_asked || !ask(claim.host, type, *entry, now))) {
    return entry->asked == SteadyTime{} ? AuthorityVerdict::unresolved : verdict;
  }
  waiter.leave();
  waiter.address_ = address;
  entry->waiters.push_back(waiter);
  return std::nullopt;
}

// Null: all places are taken by names that are being asked for.
AuthorityNames::Name* AuthorityNames::make_room_and_add(Names& names, std::string_view name) {
  if (names.size() >= kMostNames) {
    const auto idle =
        std::ranges::find_if(names, [](const auto& entry) { return !entry.second.asking; });
    if (idle == names.end()) return nullptr;
    names.erase(idle);
  }
  return &names[std::string(name)];
}

// False: too many questions are under way.
bool AuthorityNames::ask(std::string_view name, DnsType type, Name& entry, SteadyTime now) {
  if (entry.asking) return true;
  if (questions_ >= kMostQuestions) return false;
  ++questions_;
  entry.asking = true;
  entry.asked = now;
  std::string text(name);
  resolver_.ask(text, type, io_, [this, text, type](const DnsReply& reply) {
    --questions_;
    learn(text, type, reply, std::chrono::steady_clock::now());
  });
  return true;
}

void AuthorityNames::learn(std::string_view name, DnsType type, const DnsReply& reply,
                           SteadyTime now) {
  Names& names = names_of(type);
  auto found = names.find(name);
  if (found == names.end()) return;  // cannot be while it is asked for
  Name& entry = found->second;
  entry.asking = false;
  entry.failed = reply.verdict == DnsReply::Verdict::failed;
  std::erase_if(entry.addresses, [&](const Address& one) { return one.until <= now; });
  if (reply.verdict == DnsReply::Verdict::answered) remember(entry, reply.answer, now);
  tell(entry, now);
}

void AuthorityNames::remember(Name& entry, const DnsAnswer& answer, SteadyTime now) {
  const SteadyTime until = now + answer.ttl + kKept;
  for (const policy::IpAddress& address : answer.addresses) {
    const auto known = std::ranges::find(entry.addresses, address, &Address::address);
    if (known != entry.addresses.end()) {
      known->until = std::max(known->until, until);
    } else if (entry.addresses.size() < kMostAddresses) {
      entry.addresses.push_back({address, until});
    } else {
      *std::ranges::min_element(entry.addresses, {}, &Address::until) = {address, until};
    }
  }
  entry.fresh_until = now + std::clamp<std::chrono::seconds>(answer.ttl, kAskAgain, kKept);
}

// Whoever is told may ask again, or be gone: the entry is not touched any more.
void AuthorityNames::tell(Name& entry, SteadyTime now) {
  Waiters waiters;
  waiters.swap(entry.waiters);
  for (AuthorityWaiter& waiter : waiters)
    waiter.verdict_ = entry.verdict(waiter.address_, now);
  while (!waiters.empty()) {
    AuthorityWaiter& waiter = waiters.front();
    waiter.leave();
    waiter.user_.on_authority(waiter.verdict_);
  }
}

}  // namespace sluice::gateway
