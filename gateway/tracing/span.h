// What is remembered of a sampled request until a collector has it. Texts are bounded, so that a
// ring of spans is bounded memory.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "gateway/access_log.h"
#include "policy/address.h"

namespace sluice::gateway {

struct Span {
  enum class Kind : std::uint8_t {
    request,   // of a client
    decision,  // what the policy does with it
    attempt,   // at an upstream's endpoint
  };

  Kind kind = Kind::request;
  WayIn way{};
  bool remote_parent = false;  // it is another's span
  std::array<char, 32> trace{};
  std::uint64_t id = 0;
  std::uint64_t parent = 0;  // 0: none
  std::int64_t begun = 0;    // Unix time, ns
  std::int64_t ended = 0;
  int status = 0;  // HTTP; 0: none came
  std::uint32_t resends = 0;
  std::string_view protocol = {};  // literals, all of these
  std::string_view scheme = {};
  std::string_view error = {};     // "": none
  std::string_view decision = {};  // forward, answer or refuse
  policy::SocketAddress peer;      // of the request
  policy::SocketAddress endpoint;
  BoundedText<16> method;
  BoundedText<64> client;
  BoundedText<128> host;
  BoundedText<256> path;
  BoundedText<64> listener;
  BoundedText<128> route;
  BoundedText<128> route_path;
  BoundedText<64> upstream;
  BoundedText<160> reason;
  // Of calls of language models.
  std::string_view operation = {};
  std::string_view provider = {};
  BoundedText<96> model;
  std::int64_t input_tokens = -1;
  std::int64_t output_tokens = -1;
};

}  // namespace sluice::gateway
