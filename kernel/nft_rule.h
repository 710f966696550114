// A rule being built from nftables' expressions, in the order in which they are asked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

struct nftnl_rule;

namespace sluice::kernel {

class NftRule {
 public:
  NftRule();
  ~NftRule();
  NftRule(NftRule&&) noexcept;
  NftRule& operator=(NftRule&&) noexcept;

  enum class Side { source, destination };

  // Matches. A rule whose match fails ends there.
  NftRule& is_tcp(bool yes = true);
  NftRule& is_udp();
  NftRule& is_icmp(bool v4);
  NftRule& is_version(bool v4);
  NftRule& came_by(const std::string& interface);
  NftRule& leaves_by(const std::string& interface);
  NftRule& destination_is_local();                               // fib daddr type local
  NftRule& opens_connection(bool yes);                           // tcp flags & (syn|ack) ==/!= syn
  NftRule& has_transparent_socket();                             // socket transparent 1
  NftRule& has_wildcard_socket();                                // socket wildcard 1
  NftRule& mark_is(std::uint32_t value, std::uint32_t mask);     // meta mark & mask == value
  NftRule& ct_mark_is(std::uint32_t value, std::uint32_t mask);  // ct mark & mask == value
  NftRule& from_opener();  // ct direction original: sent by who opened the connection
  NftRule& address_in(Side side, bool v4, const std::string& set, bool yes = true);
  NftRule& destination_port_in(const std::string& set, bool yes = true);
  NftRule& destination_port_is(std::uint16_t port);
  NftRule& protocol_in(const std::string& set);               // meta l4proto @set
  NftRule& in_cgroup(std::uint64_t id, std::uint32_t level);  // socket cgroupv2

  // Statements.
  NftRule& count();  // packets and bytes, see nft_count_of()
  NftRule& set_mark(std::uint32_t value, std::uint32_t mask);
  NftRule& set_ct_mark(std::uint32_t value, std::uint32_t mask);
  // The listener on this port gets the packet, of either IP version. Without such a listener the
  // rule ends here: what stands behind it is not done.
  NftRule& tproxy_to(std::uint16_t port);
  NftRule& accept();
  NftRule& drop();
  NftRule& reject();     // ICMP: administratively prohibited
  NftRule& reset_tcp();  // RST to the sender
  NftRule& jump(const std::string& chain);
  NftRule& comment(const std::string& text);

  nftnl_rule* get() const { return rule_.get(); }

 private:
  struct Deleter {
    void operator()(nftnl_rule* rule) const;
  };
  NftRule& load_meta(std::uint32_t key);
  NftRule& load_ct(std::uint32_t key);
  NftRule& socket_flag(std::uint32_t key);
  NftRule& load_payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length);
  NftRule& mask(std::uint32_t keep, std::uint32_t flip);
  NftRule& compare(std::uint32_t operation, const void* data, std::uint32_t length);
  NftRule& look_up(const std::string& set, bool yes);
  NftRule& refuse(std::uint32_t type, std::uint8_t code);
  NftRule& l4proto(std::uint8_t protocol, bool yes);
  NftRule& verdict(int code, const char* chain);

  std::unique_ptr<nftnl_rule, Deleter> rule_;
};

}  // namespace sluice::kernel
