// Puts a body into an outbox as HTTP/1.1 frames it.
#pragma once

#include <array>
#include <string_view>

#include "gateway/http1/chunked.h"
#include "gateway/outbox.h"

namespace sluice::gateway::http1 {

class BodyWriter {
 public:
  // `enchunk`: what is added is payload, and goes out in chunks; otherwise it goes out as it is.
  // The outbox holds no chunk of an earlier body; what is there, a head for example, may stay.
  void begin(bool enchunk) {
    enchunk_ = enchunk;
    prefixes_ = 0;
  }

  bool verbatim() const { return !enchunk_; }

  // One chunk for each piece. Takes three slices at most.
  void add(Outbox& out, std::string_view data) {
    if (!enchunk_) return out.add(data);
    if (data.empty()) return;
    if (out.empty()) prefixes_ = 0;
    out.add(chunk_prefix(data.size(), memory_[prefixes_++]));
    out.add(data);
    out.add(kChunkEnd);
  }
  // `trailers`: whole field lines; they go with a chunked body only.
  void finish(Outbox& out, std::string_view trailers) {
    if (!enchunk_) return;
    if (trailers.empty()) return out.add(kLastChunk);
    out.add("0\r\n");
    out.add(trailers);
    out.add("\r\n");
  }

 private:
  bool enchunk_ = false;
  std::size_t prefixes_ = 0;  // in the outbox
  std::array<std::array<char, 20>, Outbox::kMaxSlices / 3 + 1> memory_;
};

}  // namespace sluice::gateway::http1
