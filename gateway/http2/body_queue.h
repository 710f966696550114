// The DATA of one stream that its exchange has not passed on yet. Never more than the stream's
// window, so two blocks suffice: one that is handed out, one that fills meanwhile.
#pragma once

#include <cstring>
#include <string_view>

#include "gateway/buffer.h"
#include "gateway/http2/codec.h"

namespace sluice::gateway::http2 {

static_assert(kStreamWindow <= Buffer::kSize);

class BodyQueue {
 public:
  void push(std::string_view data, BufferPool& pool) {
    if (data.empty()) return;
    if (!incoming_) incoming_ = pool.take();
    std::memcpy(incoming_->bytes + incoming_size_, data.data(), data.size());
    incoming_size_ += data.size();
  }

  // What was not handed out yet, in one piece that stays until drop(); "" if there is none now.
  std::string_view next() {
    if (!given_) {
      given_ = true;
      return {handed_ ? handed_->bytes : nullptr, handed_size_};
    }
    if (handed_size_ > 0) return {};
    std::swap(handed_, incoming_);
    std::swap(handed_size_, incoming_size_);
    return {handed_ ? handed_->bytes : nullptr, handed_size_};
  }
  // Lets go of what was handed out; returns its size, for the window.
  std::size_t drop(BufferPool& pool) {
    const std::size_t bytes = handed_size_;
    if (bytes > 0) dropped_ = true;
    handed_size_ = 0;
    pool.give_back(std::move(handed_));
    return bytes;
  }
  // Hands out again from the beginning; only while !dropped().
  void rewind() { given_ = handed_size_ == 0; }
  bool dropped() const { return dropped_; }
  bool has_more() const { return incoming_size_ > 0 || !given_; }

  std::size_t clear(BufferPool& pool) {
    const std::size_t bytes = handed_size_ + incoming_size_;
    pool.give_back(std::move(handed_));
    pool.give_back(std::move(incoming_));
    handed_size_ = incoming_size_ = 0;
    dropped_ = false;
    given_ = true;
    return bytes;
  }

 private:
  BufferPtr handed_;
  BufferPtr incoming_;
  std::size_t handed_size_ = 0;
  std::size_t incoming_size_ = 0;
  bool given_ = true;  // handed_ was given to the exchange
  bool dropped_ = false;
};

}  // namespace sluice::gateway::http2
