// A netlink socket: transactions and dumps, blocking, with the kernel's own errors.
#pragma once

#include <cstdint>
#include <functional>
#include <linux/netlink.h>
#include <span>
#include <vector>

#include "kernel/keeper_protocol.h"

namespace sluice::kernel {

// One message being built; long enough for what we send (64 KiB).
class NetlinkMessage {
 public:
  NetlinkMessage(std::uint16_t type, std::uint16_t flags);
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }
  template <typename Header>
  Header& extra() {
    return *static_cast<Header*>(put_extra(sizeof(Header)));
  }
  std::span<const char> bytes();
  void put(std::uint16_t attribute, std::span<const char> value);

 private:
  void* put_extra(std::size_t size);
  std::vector<char> bytes_;
};

class NetlinkSocket {
 public:
  // `bus`: NETLINK_ROUTE or NETLINK_NETFILTER. Check valid().
  explicit NetlinkSocket(int bus);
  bool valid() const { return static_cast<bool>(fd_); }

  // Sends, waits for the acknowledgement; 0 or the kernel's errno. NLM_F_ACK is set here.
  int request(NetlinkMessage& message);
  // `each` gets every message of the answer; 0 or an errno.
  int dump(NetlinkMessage& message, const std::function<void(const nlmsghdr&)>& each);

  // What an error says of the messages after it: a nftables batch ends there.
  enum class Errors : std::uint8_t { end_all, of_one };
  // Sends messages that are complete and reads until `last_sequence` is answered. Every error with
  // its sequence number goes to `failed`. Returns an errno of the socket itself.
  int exchange(std::span<const char> bytes, std::uint32_t last_sequence,
               const std::function<void(std::uint32_t sequence, int error)>& failed,
               Errors errors = Errors::end_all);

 private:
  int send(std::span<const char> bytes);
  protocol::OwnedFd fd_;
  std::uint32_t sequence_ = 1;
};

}  // namespace sluice::kernel
