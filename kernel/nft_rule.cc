#include "kernel/nft_rule.h"

#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "kernel/nft_batch.h"

namespace sluice::kernel {
namespace {

constexpr std::uint32_t kRegister = NFT_REG_1;
constexpr std::size_t kInterfaceName = 16;  // IFNAMSIZ
constexpr std::size_t kMaxComment = 120;
constexpr std::uint8_t kSyn = 0x02;
constexpr std::uint8_t kSynAck = 0x12;

std::array<char, kInterfaceName> padded(const std::string& interface) {
  std::array<char, kInterfaceName> name{};
  interface.copy(name.data(), name.size() - 1);
  return name;
}

}  // namespace

void NftRule::Deleter::operator()(nftnl_rule* rule) const {
  nftnl_rule_free(rule);
}
NftRule::NftRule() : rule_(nftnl_rule_alloc()) {}
NftRule::~NftRule() = default;
NftRule::NftRule(NftRule&&) noexcept = default;
NftRule& NftRule::operator=(NftRule&&) noexcept = default;

NftRule& NftRule::load_meta(std::uint32_t key) {
  nftnl_expr* expression = nftnl_expr_alloc("meta");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_DREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::load_ct(std::uint32_t key) {
  nftnl_expr* expression = nftnl_expr_alloc("ct");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, key);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_DREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::load_payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length) {
  nftnl_expr* expression = nftnl_expr_alloc("payload");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_BASE, base);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_LEN, length);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_PAYLOAD_DREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

// register = (register & keep) ^ flip, on 32 bits in host order.
NftRule& NftRule::mask(std::uint32_t keep, std::uint32_t flip) {
  nftnl_expr* expression = nftnl_expr_alloc("bitwise");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, kRegister);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, kRegister);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, sizeof(keep));
  nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, &keep, sizeof(keep));
  nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, &flip, sizeof(flip));
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::compare(std::uint32_t operation, const void* data, std::uint32_t length) {
  nftnl_expr* expression = nftnl_expr_alloc("cmp");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_SREG, kRegister);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CMP_OP, operation);
  nftnl_expr_set(expression, NFTNL_EXPR_CMP_DATA, data, length);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::look_up(const std::string& set, bool yes) {
  nftnl_expr* expression = nftnl_expr_alloc("lookup");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_SREG, kRegister);
  nftnl_expr_set_str(expression, NFTNL_EXPR_LOOKUP_SET, set.c_str());
  if (!yes) nftnl_expr_set_u32(expression, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::verdict(int code, const char* chain) {
  nftnl_expr* expression = nftnl_expr_alloc("immediate");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(code));
  if (chain) nftnl_expr_set_str(expression, NFTNL_EXPR_IMM_CHAIN, chain);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::l4proto(std::uint8_t protocol, bool yes) {
  return load_meta(NFT_META_L4PROTO)
      .compare(yes ? NFT_CMP_EQ : NFT_CMP_NEQ, &protocol, sizeof(protocol));
}

NftRule& NftRule::is_tcp(bool yes) {
  return l4proto(IPPROTO_TCP, yes);
}
NftRule& NftRule::is_udp() {
  return l4proto(IPPROTO_UDP, true);
}
NftRule& NftRule::is_icmp(bool v4) {
  return v4 ? l4proto(IPPROTO_ICMP, true) : l4proto(IPPROTO_ICMPV6, true);
}

NftRule& NftRule::is_version(bool v4) {
  const std::uint8_t family = v4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
  return load_meta(NFT_META_NFPROTO).compare(NFT_CMP_EQ, &family, sizeof(family));
}

NftRule& NftRule::came_by(const std::string& interface) {
  const auto name = padded(interface);
  return load_meta(NFT_META_IIFNAME).compare(NFT_CMP_EQ, name.data(), name.size());
}

NftRule& NftRule::leaves_by(const std::string& interface) {
  const auto name = padded(interface);
  return load_meta(NFT_META_OIFNAME).compare(NFT_CMP_EQ, name.data(), name.size());
}

NftRule& NftRule::destination_is_local() {
  nftnl_expr* expression = nftnl_expr_alloc("fib");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_FIB_DREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  const std::uint32_t local = RTN_LOCAL;
  return compare(NFT_CMP_EQ, &local, sizeof(local));
}

NftRule& NftRule::opens_connection(bool yes) {
  load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1);
  nftnl_expr* expression = nftnl_expr_alloc("bitwise");
  const std::uint8_t keep = kSynAck, flip = 0;
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_SREG, kRegister);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_DREG, kRegister);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_BITWISE_LEN, 1);
  nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_MASK, &keep, 1);
  nftnl_expr_set(expression, NFTNL_EXPR_BITWISE_XOR, &flip, 1);
  nftnl_rule_add_expr(get(), expression);
  return compare(yes ? NFT_CMP_EQ : NFT_CMP_NEQ, &kSyn, 1);
}

NftRule& NftRule::socket_flag(std::uint32_t key) {
  nftnl_expr* expression = nftnl_expr_alloc("socket");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_KEY, key);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_DREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  const std::uint8_t yes = 1;
  return compare(NFT_CMP_EQ, &yes, sizeof(yes));
}

NftRule& NftRule::has_transparent_socket() {
  return socket_flag(NFT_SOCKET_TRANSPARENT);
}
NftRule& NftRule::has_wildcard_socket() {
  return socket_flag(NFT_SOCKET_WILDCARD);
}

NftRule& NftRule::mark_is(std::uint32_t value, std::uint32_t bits) {
  return load_meta(NFT_META_MARK).mask(bits, 0).compare(NFT_CMP_EQ, &value, sizeof(value));
}

NftRule& NftRule::ct_mark_is(std::uint32_t value, std::uint32_t bits) {
  return load_ct(NFT_CT_MARK).mask(bits, 0).compare(NFT_CMP_EQ, &value, sizeof(value));
}

NftRule& NftRule::from_opener() {
  const std::uint8_t original = 0;
  return load_ct(NFT_CT_DIRECTION).compare(NFT_CMP_EQ, &original, sizeof(original));
}

NftRule& NftRule::address_in(Side side, bool v4, const std::string& set, bool yes) {
  const std::uint32_t length = v4 ? 4 : 16;
  const std::uint32_t source = v4 ? 12 : 8;  // offset in the IP header
  const std::uint32_t offset = side == Side::source ? source : source + length;
  return load_payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length).look_up(set, yes);
}

NftRule& NftRule::destination_port_in(const std::string& set, bool yes) {
  return load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2).look_up(set, yes);
}

NftRule& NftRule::destination_port_is(std::uint16_t port) {
  const std::uint16_t wire = htons(port);
  return load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2).compare(NFT_CMP_EQ, &wire, sizeof(wire));
}

NftRule& NftRule::protocol_in(const std::string& set) {
  return load_meta(NFT_META_L4PROTO).look_up(set, true);
}

NftRule& NftRule::in_cgroup(std::uint64_t id, std::uint32_t level) {
  nftnl_expr* expression = nftnl_expr_alloc("socket");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_KEY, NFT_SOCKET_CGROUPV2);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_LEVEL, level);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_SOCKET_DREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return compare(NFT_CMP_EQ, &id, sizeof(id));
}

NftRule& NftRule::set_mark(std::uint32_t value, std::uint32_t bits) {
  load_meta(NFT_META_MARK).mask(~bits, value);
  nftnl_expr* expression = nftnl_expr_alloc("meta");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_KEY, NFT_META_MARK);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_META_SREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::set_ct_mark(std::uint32_t value, std::uint32_t bits) {
  load_ct(NFT_CT_MARK).mask(~bits, value);
  nftnl_expr* expression = nftnl_expr_alloc("ct");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_KEY, NFT_CT_MARK);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_CT_SREG, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::tproxy_to(std::uint16_t port) {
  const std::uint16_t wire = htons(port);
  nftnl_expr* value = nftnl_expr_alloc("immediate");
  nftnl_expr_set_u32(value, NFTNL_EXPR_IMM_DREG, kRegister);
  nftnl_expr_set(value, NFTNL_EXPR_IMM_DATA, &wire, sizeof(wire));
  nftnl_rule_add_expr(get(), value);
  nftnl_expr* expression = nftnl_expr_alloc("tproxy");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_TPROXY_FAMILY, NFPROTO_UNSPEC);
  nftnl_expr_set_u32(expression, NFTNL_EXPR_TPROXY_REG_PORT, kRegister);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}

NftRule& NftRule::refuse(std::uint32_t type, std::uint8_t code) {
  nftnl_expr* expression = nftnl_expr_alloc("reject");
  nftnl_expr_set_u32(expression, NFTNL_EXPR_REJECT_TYPE, type);
  nftnl_expr_set_u8(expression, NFTNL_EXPR_REJECT_CODE, code);
  nftnl_rule_add_expr(get(), expression);
  return *this;
}
NftRule& NftRule::reject() {
  return refuse(NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
}
NftRule& NftRule::reset_tcp() {
  return refuse(NFT_REJECT_TCP_RST, 0);
}

NftRule& NftRule::count() {
  nftnl_rule_add_expr(get(), nftnl_expr_alloc("counter"));
  return *this;
}

NftRule& NftRule::accept() {
  return verdict(NF_ACCEPT, nullptr);
}
NftRule& NftRule::drop() {
  return verdict(NF_DROP, nullptr);
}
NftRule& NftRule::jump(const std::string& chain) {
  return verdict(NFT_JUMP, chain.c_str());
}

NftRule& NftRule::comment(const std::string& text) {
  nftnl_udata_buf* data = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);
  nftnl_udata_put_strz(data, NFTNL_UDATA_RULE_COMMENT, text.substr(0, kMaxComment).c_str());
  nftnl_rule_set_data(get(), NFTNL_RULE_USERDATA, nftnl_udata_buf_data(data),
                      nftnl_udata_buf_len(data));
  nftnl_udata_buf_free(data);
  return *this;
}

}  // namespace sluice::kernel
