// Which addresses names stand for, as one worker has learnt it: for `verify_authority`.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/intrusive/list.hpp>

#include "gateway/name_resolver.h"
#include "gateway/timer_wheel.h"
#include "policy/authority.h"

namespace sluice::gateway {

// Called on the worker's thread, never from within AuthorityNames::check().
class AuthorityUser {
 public:
  virtual void on_authority(policy::AuthorityVerdict verdict) = 0;

 protected:
  ~AuthorityUser() = default;
};

// One who waits for an answer; a member of whoever asks, used again and again.
class AuthorityWaiter : public boost::intrusive::list_base_hook<
                            boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  explicit AuthorityWaiter(AuthorityUser& user) : user_(user) {}
  void leave() { unlink(); }  // harmless when it does not wait

 private:
  friend class AuthorityNames;
  AuthorityUser& user_;
  policy::IpAddress address_;
  policy::AuthorityVerdict verdict_{};
};

// Its worker's thread only; of bounded memory. Addresses that a name had count for a while after
// their TTL: a client may have asked another server, or a little earlier. While DNS fails they
// count as long as that. What is not among them is asked for again before it is refused, at most
// once in kAskAgain.
class AuthorityNames {
 public:
  static constexpr std::chrono::minutes kKept{10};
  static constexpr std::chrono::seconds kAskAgain{2};
  static constexpr std::size_t kMostNames = 4096;     // of a family
  static constexpr std::size_t kMostAddresses = 64;   // of a name
  static constexpr std::size_t kMostQuestions = 128;  // at a time

  AuthorityNames(boost::asio::io_context& worker, NameResolver& resolver)
      : io_(worker), resolver_(resolver) {}

  // nullopt: `waiter` waits, and its user is told.
  std::optional<policy::AuthorityVerdict> check(const policy::AuthorityClaim& claim,
                                                AuthorityWaiter& waiter, SteadyTime now);
  // What a server has said; public for tests.
  void learn(std::string_view name, DnsType type, const DnsReply& reply, SteadyTime now);

 private:
  using Waiters =
      boost::intrusive::list<AuthorityWaiter, boost::intrusive::constant_time_size<false>>;
  struct Address {
    policy::IpAddress address;
    SteadyTime until;
  };
  struct Name {
    std::vector<Address> addresses;
    SteadyTime fresh_until{};
    SteadyTime asked{};
    bool asking = false;
    bool failed = false;  // the last time
    Waiters waiters;
    policy::AuthorityVerdict verdict(const policy::IpAddress& address, SteadyTime now) const;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  using Names = std::unordered_map<std::string, Name, TextHash, std::equal_to<>>;

  Names& names_of(DnsType type) { return names_[type == DnsType::a ? 0 : 1]; }
  Name* make_room_and_add(Names& names, std::string_view name);
  bool ask(std::string_view name, DnsType type, Name& entry, SteadyTime now);
  static void remember(Name& entry, const DnsAnswer& answer, SteadyTime now);
  static void tell(Name& entry, SteadyTime now);

  boost::asio::io_context& io_;
  NameResolver& resolver_;
  std::array<Names, 2> names_;
  std::size_t questions_ = 0;
};

}  // namespace sluice::gateway
