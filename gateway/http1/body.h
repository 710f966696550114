// Where a message's body ends, and what of it is sent on; one type for all framings (RFC 9112
// section 6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http1/chunked.h"
#include "gateway/http1/forward.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::http1 {

class BodyReader {
 public:
  struct Step {
    std::size_t consumed = 0;  // 0: give more input
    std::string_view forward;
    bool failed = false;  // the chunked coding is broken: see error()
  };

  void begin(BodyKind kind, std::uint64_t length, BodyRelay relay);
  Step step(std::string_view in);
  bool done() const { return done_; }
  // Bytes of the body that are still to come as they are, and may pass by unseen; 0: they have to
  // be looked at. Without an end but the connection's: as many as there are numbers.
  std::uint64_t left() const;
  void pass(std::uint64_t bytes);  // so many of them have
  // The sender has closed its side. True when that is a proper end.
  bool end_of_input();
  ParseError error() const { return chunked_.error(); }
  // Once done, of a body that is taken out of its chunks: whole lines.
  std::string_view trailers() const { return trailers_; }

 private:
  BodyKind kind_ = BodyKind::none;
  bool dechunk_ = false;
  bool done_ = true;
  std::uint64_t remaining_ = 0;
  ChunkedDecoder chunked_;
  std::string trailers_;
};

}  // namespace sluice::gateway::http1
