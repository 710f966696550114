#include "gateway/upstream/discovery.h"

#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/log.h"
#include "gateway/upstream/dns_resolver.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;

struct Servers {
  std::vector<policy::SocketAddress> addresses;
  std::chrono::nanoseconds timeout{};
  auto operator<=>(const Servers&) const = default;
};

struct Question {
  std::string name;
  DnsType type = DnsType::a;
  Servers servers;
  auto operator<=>(const Question&) const = default;
};

std::string_view name_of(DnsType type) {
  switch (type) {
    case DnsType::a:
      return "A";
    case DnsType::aaaa:
      return "AAAA";
    case DnsType::srv:
      return "SRV";
  }
  return "";
}

Servers servers_of(const policy::Upstream& upstream) {
  return {upstream.dns.resolvers, upstream.dns.timeout};
}

std::string describe(const DnsAnswer& answer) {
  std::string text;
  const auto add = [&](const std::string& one) {
    text.append(text.empty() ? "" : ", ").append(one);
  };
  for (const policy::IpAddress& address : answer.addresses)
    add(address.to_string());
  for (const SrvRecord& service : answer.services)
    add(service.target + ":" + std::to_string(service.port));
  return text.empty() ? "nothing" : text;
}

}  // namespace

// One question and what is known about it.
struct Discovery::Lookup : std::enable_shared_from_this<Discovery::Lookup> {
  Lookup(State& owner, Question asked, asio::io_context& io)
      : state(owner), question(std::move(asked)), timer(io) {}

  void ask();
  void ask_after(std::chrono::nanoseconds pause);
  void heard(const DnsReply& reply);
  bool learn(const DnsReply& reply);
  void failed(const std::string& reason);
  std::chrono::nanoseconds next_pause() const;

  State& state;
  const Question question;
  asio::steady_timer timer;
  std::chrono::nanoseconds min_ttl{};
  DnsAnswer known;
  bool answered = false;  // `known` is what a server said, if only that there is nothing
  bool stopped = false;
  bool failing = false;  // the last try, and it was logged
  std::uint32_t empty_in_row = 0;
  std::uint32_t failures_in_row = 0;
  std::uint64_t answers = 0;
  std::uint64_t failures = 0;
};

struct Discovery::State : std::enable_shared_from_this<Discovery::State> {
  State(asio::io_context& context, DiscoveryOptions settings)
      : io(context), options(std::move(settings)), random(std::random_device{}()) {}

  DnsResolver& resolver(const Servers& servers) {
    auto& found = resolvers[servers];
    if (!found) {
      found =
          std::make_unique<DnsResolver>(io, DnsResolverOptions{.servers = servers.addresses,
                                                               .timeout = servers.timeout,
                                                               .own_mark = options.own_mark,
                                                               .resolv_conf = options.resolv_conf});
    }
    return *found;
  }

  const Lookup* find(const std::string& name, DnsType type, const Servers& servers) const {
    const auto found = lookups.find({name, type, servers});
    return found == lookups.end() ? nullptr : found->second.get();
  }

  void follow();
  void want(std::map<Question, std::chrono::nanoseconds>& wanted, Question question,
            std::chrono::nanoseconds min_ttl) const;
  void want_addresses(std::map<Question, std::chrono::nanoseconds>& wanted, const std::string& name,
                      policy::AddressFamily family, const policy::Upstream& upstream) const;
  void add_addresses(const std::string& name, const policy::Upstream& upstream,
                     policy::AddressFamily family, ResolvedEndpoint like, Resolution& out) const;
  void changed();

  asio::io_context& io;
  const DiscoveryOptions options;
  std::minstd_rand random;
  std::vector<policy::Upstream> upstreams;  // those with names
  std::map<Servers, std::unique_ptr<DnsResolver>> resolvers;
  std::map<Question, std::shared_ptr<Lookup>> lookups;
  bool change_posted = false;
  bool stopped = false;
};

// --- one question ---

void Discovery::Lookup::ask() {
  state.resolver(question.servers)
      .ask(question.name, question.type, [self = shared_from_this()](const DnsReply& reply) {
        if (!self->stopped) self->heard(reply);
      });
}

void Discovery::Lookup::ask_after(std::chrono::nanoseconds pause) {
  timer.expires_after(pause);
  timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && !self->stopped) self->ask();
  });
}

void Discovery::Lookup::heard(const DnsReply& reply) {
  const bool told_before = answered;
  const bool news = learn(reply);
  ask_after(next_pause());
  // What was asked for the first time matters even where it is nothing: nobody need wait any more.
  if (news || answered != told_before) state.changed();
}

// True when `known` is another than before.
bool Discovery::Lookup::learn(const DnsReply& reply) {
  if (reply.verdict == DnsReply::Verdict::failed) {
    failed(reply.reason);
    return false;
  }
  if (std::exchange(failing, false)) {
    log_info("dns", "answers again",
             {{"name", question.name}, {"type", std::string(name_of(question.type))}});
  }
  ++answers;
  failures_in_row = 0;
  const bool empty = reply.verdict == DnsReply::Verdict::empty;
  empty_in_row = empty ? empty_in_row + 1 : 0;
  if (empty && known.empty() && empty_in_row == 1) {  // of A and AAAA often one; of a typo both
    log_info("dns", "name has no such records",
             {{"name", question.name}, {"type", std::string(name_of(question.type))}});
  }
  if (empty && !known.empty() && empty_in_row < kEmptyTimes) return false;
  answered = true;
  const bool same = known.same_records(reply.answer);
  known = reply.answer;
  if (same) return false;
  log_info("dns", "name stands for other endpoints",
           {{"name", question.name},
            {"type", std::string(name_of(question.type))},
            {"records", describe(known)}});
  return true;
}

void Discovery::Lookup::failed(const std::string& reason) {
  ++failures;
  ++failures_in_row;
  if (std::exchange(failing, true)) return;
  log_warn(
      "dns",
      known.empty() ? "a name cannot be resolved"
                    : "a name cannot be resolved; the last good answer holds",
      {{"name", question.name}, {"type", std::string(name_of(question.type))}, {"error", reason}});
}

std::chrono::nanoseconds Discovery::Lookup::next_pause() const {
  // Not all names of all nodes at the same moment.
  const auto spread = [this](std::chrono::nanoseconds pause) {
    return pause + pause * (state.random() % 100) / 1000;
  };
  if (failures_in_row > 0) {
    const std::chrono::seconds pause{1u << std::min(failures_in_row - 1, 4u)};
    return spread(std::min(pause, kLongestPause));
  }
  // An answer that is held on to has no TTL any more.
  if (empty_in_row > 0) return spread(min_ttl);
  return spread(std::max<std::chrono::nanoseconds>(known.ttl, min_ttl));
}

// --- all of them ---

Discovery::Discovery(asio::io_context& io, DiscoveryOptions options)
    : state_(std::make_shared<State>(io, std::move(options))) {}

Discovery::~Discovery() {
  state_->stopped = true;
  for (const auto& [question, lookup] : state_->lookups) {
    lookup->stopped = true;
    lookup->timer.cancel();
  }
  state_->resolvers.clear();
}

void Discovery::follow(const std::vector<policy::Upstream>& upstreams) {
  state_->upstreams.clear();
  std::ranges::copy_if(upstreams, std::back_inserter(state_->upstreams), [](const auto& upstream) {
    return std::ranges::any_of(upstream.endpoints, &policy::Endpoint::is_name);
  });
  state_->follow();
}

void Discovery::State::want(std::map<Question, std::chrono::nanoseconds>& wanted, Question question,
                            std::chrono::nanoseconds min_ttl) const {
  const auto [entry, fresh] = wanted.emplace(std::move(question), min_ttl);
  if (!fresh) entry->second = std::min(entry->second, min_ttl);
}

void Discovery::State::want_addresses(std::map<Question, std::chrono::nanoseconds>& wanted,
                                      const std::string& name, policy::AddressFamily family,
                                      const policy::Upstream& upstream) const {
  const Servers servers = servers_of(upstream);
  if (family != policy::AddressFamily::ipv6)
    want(wanted, {name, DnsType::a, servers}, upstream.dns.min_ttl);
  if (family != policy::AddressFamily::ipv4)
    want(wanted, {name, DnsType::aaaa, servers}, upstream.dns.min_ttl);
}

// Starts what is new, and lets go of what nobody asks for any more.
void Discovery::State::follow() {
  std::map<Question, std::chrono::nanoseconds> wanted;
  for (const policy::Upstream& upstream : upstreams) {
    const Servers servers = servers_of(upstream);
    for (const policy::Endpoint& endpoint : upstream.endpoints) {
      if (!endpoint.dns.empty()) want_addresses(wanted, endpoint.dns, endpoint.family, upstream);
      if (endpoint.srv.empty()) continue;
      want(wanted, {endpoint.srv, DnsType::srv, servers}, upstream.dns.min_ttl);
      const Lookup* services = find(endpoint.srv, DnsType::srv, servers);
      if (services == nullptr) continue;
      for (const SrvRecord& service : services->known.services)
        want_addresses(wanted, service.target, endpoint.family, upstream);
    }
  }
  std::erase_if(lookups, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    entry.second->stopped = true;
    entry.second->timer.cancel();
    return true;
  });
  std::erase_if(resolvers, [&](const auto& entry) {
    return std::ranges::none_of(wanted,
                                [&](const auto& one) { return one.first.servers == entry.first; });
  });
  for (const auto& [question, min_ttl] : wanted) {
    auto& lookup = lookups[question];
    const bool fresh = lookup == nullptr;
    if (fresh) lookup = std::make_shared<Lookup>(*this, question, io);
    lookup->min_ttl = min_ttl;
    if (fresh) lookup->ask();
  }
}

// Answers that come together, as A and AAAA do, are one change.
void Discovery::State::changed() {
  if (std::exchange(change_posted, true)) return;
  asio::post(io, [self = shared_from_this()] {
    self->change_posted = false;
    if (self->stopped) return;
    self->follow();
    if (self->options.on_change) self->options.on_change();
  });
}

void Discovery::State::add_addresses(const std::string& name, const policy::Upstream& upstream,
                                     policy::AddressFamily family, ResolvedEndpoint like,
                                     Resolution& out) const {
  for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
    if (family == policy::AddressFamily::ipv6 && type == DnsType::a) continue;
    if (family == policy::AddressFamily::ipv4 && type == DnsType::aaaa) continue;
    const Lookup* lookup = find(name, type, servers_of(upstream));
    if (lookup == nullptr || !lookup->answered) {
      out.known = false;
      continue;
    }
    for (const policy::IpAddress& address : lookup->known.addresses) {
      like.address.address = address;
      like.server_name = name;
      out.endpoints.push_back(like);
    }
  }
}

Resolution Discovery::resolve(const policy::Upstream& upstream,
                              const policy::Endpoint& endpoint) const {
  Resolution out{.endpoints = {}, .known = true};
  if (!endpoint.dns.empty()) {
    state_->add_addresses(endpoint.dns, upstream, endpoint.family, {.address = {{}, endpoint.port}},
                          out);
    return out;
  }
  const Lookup* services = state_->find(endpoint.srv, DnsType::srv, servers_of(upstream));
  if (services == nullptr || !services->answered) return {};
  // RFC 2782: lower priorities first. Ours are levels without gaps.
  std::uint32_t level = 0;
  std::uint16_t priority = 0;
  bool first = true;
  for (const SrvRecord& service : services->known.services) {  // sorted by priority
    if (!first && service.priority != priority) ++level;
    first = false;
    priority = service.priority;
    state_->add_addresses(service.target, upstream, endpoint.family,
                          {.address = {{}, service.port},
                           .weight = std::max<std::uint32_t>(service.weight, 1),
                           .priority = level},
                          out);
  }
  return out;
}

std::size_t Discovery::names() const {
  return state_->lookups.size();
}

std::vector<DnsCount> Discovery::counts() const {
  std::vector<DnsCount> counts;
  for (const auto& [question, lookup] : state_->lookups) {  // by name, then type
    const std::string_view type = name_of(question.type);
    if (counts.empty() || counts.back().name != question.name || counts.back().type != type)
      counts.push_back({.name = question.name, .type = std::string(type)});
    counts.back().answered += lookup->answers;
    counts.back().failed += lookup->failures;
  }
  return counts;
}

}  // namespace sluice::gateway
