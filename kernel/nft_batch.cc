#include "kernel/nft_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <span>

#include "kernel/netlink.h"

namespace sluice::kernel {
namespace {

constexpr std::size_t kMessageSpace = 128 * 1024;
constexpr std::size_t kElementsPerMessage = 500;  // an attribute holds 64 KiB
constexpr std::uint32_t kFamily = NFPROTO_INET;

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Table = std::unique_ptr<nftnl_table, Freer<nftnl_table_free>>;
using Chain = std::unique_ptr<nftnl_chain, Freer<nftnl_chain_free>>;
using Set = std::unique_ptr<nftnl_set, Freer<nftnl_set_free>>;

struct KeyShape {
  std::uint32_t type;  // nft's number, so that `nft list` shows it well
  std::uint32_t length;
};

KeyShape shape_of(NftKey key) {
  switch (key) {
    case NftKey::ipv4:
      return {7, 4};
    case NftKey::ipv6:
      return {8, 16};
    case NftKey::l4proto:
      return {12, 1};
    case NftKey::port:
      break;
  }
  return {13, 2};
}

// Adds one; false on overflow.
bool increment(std::array<std::uint8_t, 16>& value, std::uint32_t length) {
  for (std::uint32_t at = length; at-- > 0;) {
    if (++value[at] != 0) return true;
  }
  return false;
}

// Sorted, with overlapping and touching ones joined: the kernel wants them disjoint.
std::vector<NftInterval> joined(std::vector<NftInterval> intervals, std::uint32_t length) {
  std::sort(intervals.begin(), intervals.end());
  std::vector<NftInterval> result;
  for (const auto& interval : intervals) {
    if (!result.empty()) {
      auto after = result.back().second;
      if (!increment(after, length) || interval.first <= after) {
        result.back().second = std::max(result.back().second, interval.second);
        continue;
      }
    }
    result.push_back(interval);
  }
  return result;
}

}  // namespace

struct NftBatch::State {
  std::vector<char> bytes;
  std::vector<char> scratch = std::vector<char>(kMessageSpace);
  std::vector<std::string> subjects;  // by sequence number
  const char* table = kNftTable;
  std::uint32_t set_id = 0;
  std::size_t last_message = 0;

  std::uint32_t next(const std::string& subject) {
    subjects.push_back(subject);
    return static_cast<std::uint32_t>(subjects.size() - 1);
  }
  void append() {
    const auto* header = reinterpret_cast<const nlmsghdr*>(scratch.data());
    last_message = bytes.size();
    bytes.insert(bytes.end(), scratch.data(), scratch.data() + header->nlmsg_len);
    bytes.resize((bytes.size() + NLMSG_ALIGNTO - 1) / NLMSG_ALIGNTO * NLMSG_ALIGNTO);
  }
  nlmsghdr* message(std::uint16_t type, std::uint16_t flags, const std::string& subject) {
    return nftnl_nlmsg_build_hdr(scratch.data(), type, kFamily, flags, next(subject));
  }
  Set set(const std::string& name, NftKey key, std::uint32_t flags) {
    Set made(nftnl_set_alloc());
    nftnl_set_set_u32(made.get(), NFTNL_SET_FAMILY, kFamily);
    nftnl_set_set_str(made.get(), NFTNL_SET_TABLE, table);
    nftnl_set_set_str(made.get(), NFTNL_SET_NAME, name.c_str());
    nftnl_set_set_u32(made.get(), NFTNL_SET_KEY_TYPE, shape_of(key).type);
    nftnl_set_set_u32(made.get(), NFTNL_SET_KEY_LEN, shape_of(key).length);
    nftnl_set_set_u32(made.get(), NFTNL_SET_FLAGS, flags);
    return made;
  }
  void add_set(nftnl_set* made, const std::string& name) {
    nftnl_set_set_u32(made, NFTNL_SET_ID, ++set_id);
    nftnl_set_nlmsg_build_payload(message(NFT_MSG_NEWSET, NLM_F_CREATE, "set " + name), made);
    append();
  }
  void add_elements(nftnl_set* made, const std::string& name) {
    nftnl_set_elems_nlmsg_build_payload(
        message(NFT_MSG_NEWSETELEM, NLM_F_CREATE, "elements of set " + name), made);
    append();
  }
};

namespace {

void put_element(nftnl_set* set, const std::array<std::uint8_t, 16>& key, std::uint32_t length,
                 bool end) {
  nftnl_set_elem* element = nftnl_set_elem_alloc();
  nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, key.data(), length);
  if (end) nftnl_set_elem_set_u32(element, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
  nftnl_set_elem_add(set, element);
}

}  // namespace

NftBatch::NftBatch(const char* table) : state_(std::make_unique<State>()) {
  state_->table = table;
  nftnl_batch_begin(state_->scratch.data(), state_->next("the transaction"));
  state_->append();
}

NftBatch::~NftBatch() = default;

void NftBatch::add_table() {
  Table table(nftnl_table_alloc());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, kFamily);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, state_->table);
  nftnl_table_nlmsg_build_payload(
      state_->message(NFT_MSG_NEWTABLE, NLM_F_CREATE, "table inet " + std::string(state_->table)),
      table.get());
  state_->append();
}

void NftBatch::delete_table() {
  Table table(nftnl_table_alloc());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, kFamily);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, state_->table);
  nftnl_table_nlmsg_build_payload(
      state_->message(NFT_MSG_DELTABLE, 0, "table inet " + std::string(state_->table)),
      table.get());
  state_->append();
}

void NftBatch::add_chain(const std::string& name) {
  Chain chain(nftnl_chain_alloc());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, kFamily);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, state_->table);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name.c_str());
  nftnl_chain_nlmsg_build_payload(state_->message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "chain " + name),
                                  chain.get());
  state_->append();
}

void NftBatch::add_chain(const std::string& name, const NftHook& hook) {
  Chain chain(nftnl_chain_alloc());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, kFamily);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, state_->table);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name.c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, hook.type);
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, hook.number);
  nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, hook.priority);
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
  nftnl_chain_nlmsg_build_payload(state_->message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, "chain " + name),
                                  chain.get());
  state_->append();
}

void NftBatch::add_interval_set(const std::string& name, NftKey key,
                                std::vector<NftInterval> intervals) {
  const std::uint32_t length = shape_of(key).length;
  Set set = state_->set(name, key, NFT_SET_INTERVAL);
  state_->add_set(set.get(), name);
  const auto disjoint = joined(std::move(intervals), length);
  for (std::size_t at = 0; at < disjoint.size(); at += kElementsPerMessage) {
    Set part = state_->set(name, key, NFT_SET_INTERVAL);
    nftnl_set_set_u32(part.get(), NFTNL_SET_ID, state_->set_id);
    const auto chunk =
        std::span(disjoint).subspan(at, std::min(kElementsPerMessage, disjoint.size() - at));
    for (const auto& [first, last] : chunk) {
      put_element(part.get(), first, length, false);
      auto end = last;
      if (increment(end, length)) put_element(part.get(), end, length, true);
    }
    state_->add_elements(part.get(), name);
  }
}

void NftBatch::add_timeout_set(const std::string& name) {
  Set set = state_->set(name, NftKey::l4proto, NFT_SET_TIMEOUT);
  state_->add_set(set.get(), name);
}

void NftBatch::renew_timeout_elements(const std::string& name, std::chrono::milliseconds timeout) {
  // Adding an element that is there does not renew its time, and deleting one that ran out fails.
  flush_set(name);
  Set set = state_->set(name, NftKey::l4proto, NFT_SET_TIMEOUT);
  for (const std::uint8_t protocol : {IPPROTO_TCP, IPPROTO_UDP}) {
    nftnl_set_elem* element = nftnl_set_elem_alloc();
    nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, &protocol, sizeof(protocol));
    nftnl_set_elem_set_u64(element, NFTNL_SET_ELEM_TIMEOUT,
                           static_cast<std::uint64_t>(timeout.count()));
    nftnl_set_elem_add(set.get(), element);
  }
  state_->add_elements(set.get(), name);
}

void NftBatch::flush_set(const std::string& name) {
  Set set = state_->set(name, NftKey::l4proto, NFT_SET_TIMEOUT);
  nftnl_set_elems_nlmsg_build_payload(
      state_->message(NFT_MSG_DELSETELEM, 0, "elements of set " + name), set.get());
  state_->append();
}

void NftBatch::add_rule(const std::string& chain, const NftRule& rule) {
  nftnl_rule_set_u32(rule.get(), NFTNL_RULE_FAMILY, kFamily);
  nftnl_rule_set_str(rule.get(), NFTNL_RULE_TABLE, state_->table);
  nftnl_rule_set_str(rule.get(), NFTNL_RULE_CHAIN, chain.c_str());
  nftnl_rule_nlmsg_build_payload(
      state_->message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, "a rule of chain " + chain),
      rule.get());
  state_->append();
}

NftBatch::Failure NftBatch::commit() {
  // The last message alone is acknowledged when all went well; every failure is told.
  auto* last = reinterpret_cast<nlmsghdr*>(state_->bytes.data() + state_->last_message);
  last->nlmsg_flags |= NLM_F_ACK;
  const std::uint32_t last_sequence = last->nlmsg_seq;
  nftnl_batch_end(state_->scratch.data(), state_->next("the transaction"));
  state_->append();

  Failure failure;
  NetlinkSocket socket(NETLINK_NETFILTER);
  if (!socket.valid()) return {errno, "nfnetlink"};
  const int error =
      socket.exchange(state_->bytes, last_sequence, [&](std::uint32_t sequence, int failed) {
        if (failure.error != 0) return;
        failure.error = failed;
        failure.what =
            sequence < state_->subjects.size() ? state_->subjects[sequence] : "the transaction";
      });
  if (error != 0 && failure.error == 0) failure = {error, "nfnetlink"};
  return failure;
}

}  // namespace sluice::kernel
