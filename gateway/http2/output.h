// What of one stream waits to become DATA frames: slices that somebody else keeps, until nghttp2
// asks for them.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>

#include "gateway/http2/codec.h"
#include "gateway/outbox.h"

namespace sluice::gateway::http2 {

class Output {
 public:
  void reset() { *this = Output{}; }

  void add(Outbox& out, std::string_view data) {
    out.add(data);
    pending_ += data.size();
  }
  // Nothing will be added. `trailers` live until done().
  void finish(std::string_view trailers) {
    finished_ = true;
    trailers_ = trailers;
  }
  // The head says already that nothing follows.
  void finish_with_head() { finished_ = end_given_ = true; }

  // For nghttp2's data source. `submit_trailers(lines)` is called when they are due.
  template <typename SubmitTrailers>
  ssize_t read(std::size_t most, std::uint32_t* flags, SubmitTrailers submit_trailers) {
    if (pending_ == 0 && !finished_) {
      deferred_ = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    const std::size_t bytes = std::min(most, pending_);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (bytes < pending_ || !finished_) return static_cast<ssize_t>(bytes);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!trailers_.empty()) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      submit_trailers(trailers_);
    }
    end_given_ = true;
    return static_cast<ssize_t>(bytes);
  }
  // So many bytes, which read() has promised, into the codec's buffer.
  void take(Outbox& out, Codec& codec, std::size_t bytes) {
    pending_ -= bytes;
    while (bytes > 0) {
      const std::span<const char> slice = out.front(bytes);
      codec.put({slice.data(), slice.size()});
      bytes -= slice.size();
      out.drop(slice.size());
    }
    if (pending_ == 0) out.clear();
  }

  // nghttp2 was told to wait, and has to be told to go on.
  bool take_deferred() { return std::exchange(deferred_, false); }
  bool end_given() const { return end_given_; }
  // All that is here was taken, the end too if it is known.
  bool done() const { return pending_ == 0 && (!finished_ || end_given_); }

 private:
  std::size_t pending_ = 0;
  bool finished_ = false;
  bool end_given_ = false;
  bool deferred_ = false;
  std::string_view trailers_;
};

}  // namespace sluice::gateway::http2
