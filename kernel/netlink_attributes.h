// The attributes of a netlink message as a range: libmnl's macro of that purpose is not C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <libmnl/libmnl.h>

namespace sluice::kernel {

// Of const nlattr*; valid as long as the message. Ends where one claims more bytes than there are.
class NetlinkAttributes {
 public:
  class Iterator {
   public:
    using value_type = const nlattr*;
    using difference_type = std::ptrdiff_t;

    Iterator() = default;
    Iterator(const char* at, const char* end) : at_(at), end_(end) {}
    const nlattr* operator*() const { return reinterpret_cast<const nlattr*>(at_); }
    Iterator& operator++() {
      at_ += MNL_ALIGN((**this)->nla_len);
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const {
      return !mnl_attr_ok(**this, static_cast<int>(end_ - at_));
    }

   private:
    const char* at_ = nullptr;
    const char* end_ = nullptr;
  };

  NetlinkAttributes(const char* begin, const char* end) : begin_(begin), end_(end) {}
  // Those that follow the `fixed` bytes with which messages of its type begin.
  NetlinkAttributes(const nlmsghdr& message, std::size_t fixed)
      : begin_(static_cast<const char*>(mnl_nlmsg_get_payload_offset(&message, fixed))),
        end_(static_cast<const char*>(mnl_nlmsg_get_payload_tail(&message))) {}
  // Those inside another.
  explicit NetlinkAttributes(const nlattr& nest)
      : begin_(static_cast<const char*>(mnl_attr_get_payload(&nest))),
        end_(begin_ + mnl_attr_get_payload_len(&nest)) {}

  Iterator begin() const { return {begin_, end_}; }
  std::default_sentinel_t end() const { return {}; }

  // The first of that type; nullptr: there is none.
  const nlattr* find(std::uint16_t type) const {
    for (const nlattr* attribute : *this) {
      if (mnl_attr_get_type(attribute) == type) return attribute;
    }
    return nullptr;
  }

 private:
  const char* begin_;
  const char* end_;
};

}  // namespace sluice::kernel
