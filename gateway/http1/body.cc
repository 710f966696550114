#include "gateway/http1/body.h"

#include <algorithm>
#include <limits>

namespace sluice::gateway::http1 {

void BodyReader::begin(BodyKind kind, std::uint64_t length, BodyRelay relay) {
  kind_ = kind;
  remaining_ = length;
  dechunk_ = relay == BodyRelay::dechunk;
  done_ = kind == BodyKind::none || (kind == BodyKind::length && length == 0);
  if (kind == BodyKind::chunked) {
    chunked_.reset();
    trailers_.clear();
  }
}

BodyReader::Step BodyReader::step(std::string_view in) {
  if (done_ || in.empty()) return {};
  if (kind_ == BodyKind::until_close) return {in.size(), in};
  if (kind_ == BodyKind::length) {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(in.size(), remaining_));
    remaining_ -= n;
    done_ = remaining_ == 0;
    return {n, in.substr(0, n)};
  }
  const ChunkedStep chunk = dechunk_ ? chunked_.next_data(in) : chunked_.next_verbatim(in);
  done_ = chunk.status == ChunkedStatus::done;
  trailers_.append(chunk.trailer);
  return {chunk.consumed, chunk.forward, chunk.status == ChunkedStatus::failed};
}

std::uint64_t BodyReader::left() const {
  if (kind_ == BodyKind::until_close) return std::numeric_limits<std::uint64_t>::max();
  return kind_ == BodyKind::length ? remaining_ : 0;
}

void BodyReader::pass(std::uint64_t bytes) {
  if (kind_ != BodyKind::length) return;
  remaining_ -= bytes;
  done_ = remaining_ == 0;
}

bool BodyReader::end_of_input() {
  if (kind_ == BodyKind::until_close) done_ = true;
  return done_;
}

}  // namespace sluice::gateway::http1
