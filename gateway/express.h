// A connection's side of the express lane (kernel/express.bpf.c): what is written there reaches the
// peer's queue at once, nothing holds the writer back, and nobody says whether it was read. A peer
// that takes a short read, or FIONREAD, for all there is would miss what goes by TCP behind it. So
// this side writes no more than kMost until it hears from the peer, and turns to TCP only at a
// moment when all that it wrote must have been read.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace sluice::gateway {

// One thread. Knows of itself what goes by the lane: by how bytes come in.
class ExpressLane {
 public:
  // What the programs in the kernel go by (kernel/abi_express.h; main/kernel_plan.cc compares).
  static constexpr int kSign = 2;    // TCP_SAVE_SYN, which means nothing to a socket that connects
  static constexpr int kLeaves = 5;  // SO_PRIORITY
  // Half of what the kernel hands over between two words of the peer: of what was written before
  // the peer's word was read, as much may count there.
  static constexpr std::size_t kMost = 128 * 1024;
  // By then a peer that lives has read it.
  static constexpr std::chrono::milliseconds kPatience{50};
  // A message beyond this goes by TCP as a whole, where that can be chosen.
  static constexpr std::uint64_t kShort = 64 * 1024;

  // Before connect(2): has the kernel take the connection into the lane if its other end is a
  // socket of this node. False: the kernel does not know the option.
  static bool offer(int fd);

  // What is written may go by the lane, until the peer's first bytes say that it does not. Of any
  // other connection they tell, too: what the kernel decided may be of an older policy.
  void expect() { outwards_ = true; }
  bool watched() const { return watched_; }  // it may be in the lane
  void heard(std::size_t bytes, bool by_lane) {
    if (watched_) note(bytes, by_lane);
  }
  // By the same way as before, as far as is known.
  void heard(std::size_t bytes) {
    if (watched_) note(bytes, inwards_);
  }
  // Which way the next bytes come by is not known, or may have changed: the peer's kernel turns to
  // TCP behind twice as many bytes without a word from here. Up to then a short read took all.
  bool asks() const { return watched_ && (!known_ || heard_ >= kMost); }
  void said(std::size_t bytes) {
    if (!watched_) return;
    heard_ = 0;
    if (outwards_) unheard_ += bytes;
  }
  // Nothing more may be written until the peer says something, or kPatience is over: then leave().
  bool holds() const { return outwards_ && unheard_ >= kMost; }
  // What is written from here on goes by TCP. All that was written must have been read.
  void leave(int fd);

  bool outwards() const { return outwards_; }  // what is written goes by the lane, or may
  bool inwards() const { return inwards_; }    // the last bytes came by it
  // The next bytes may come by it, of which splice(2) sees none.
  bool may_bring() const { return watched_ && (!known_ || inwards_); }

 private:
  void note(std::size_t bytes, bool by_lane);

  std::size_t unheard_ = 0;  // bytes written since the peer's last word
  std::size_t heard_ = 0;    // bytes read since the last word to it
  bool watched_ = true;
  bool outwards_ = false;
  bool inwards_ = false;
  bool known_ = false;  // the peer was heard at least once
};

}  // namespace sluice::gateway
