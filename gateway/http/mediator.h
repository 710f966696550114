// Who stands between a request and its upstreams where more than bytes is exchanged: reads the
// whole request, says where it goes and as what, and sees the answer on its way. The exchange asks,
// at each of its phases; the mediator never calls back, and does no I/O.
//
//   admit ─► read ─► take ─► request (a try) ─► head ─► data … ─► end ─► ended
//                               ▲        next (the try came to nothing) │
//                               └───────────────────────────────────────┘
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/auth/attributes.h"
#include "gateway/http/stream.h"

namespace sluice::gateway {
struct SharedTake;
struct SharedVerdict;
}  // namespace sluice::gateway

namespace sluice::gateway::http {

class Mediator {
 public:
  virtual ~Mediator() = default;

  // What the client gets instead of an upstream's answer, or made from it.
  struct Answer {
    int status = 0;
    std::string lines = {};  // whole field lines with CRLF
    std::string body = {};
    std::string reason = {};  // for the log; "": nothing went wrong
  };

  // --- the request
  // Before anything of the body is read. Nullopt: go on.
  virtual std::optional<Answer> admit() = 0;
  // What is known of the caller, for limits.
  virtual void describe(auth::AttributeStore& attributes) const = 0;
  // The whole body. Nullopt: there is a try to be made.
  virtual std::optional<Answer> read(std::string body) = 0;

  // --- what it takes, by an estimate: of limits in tokens …
  virtual std::uint64_t tokens() const = 0;
  virtual std::string_view model() const = 0;  // as the caller calls it
  // … and of what the caller has. Null: no other gateway counts it too.
  virtual std::shared_ptr<SharedTake> shares() = 0;
  // `said`: by Redis; null: it was not asked, or has not answered. Nullopt: go on.
  virtual std::optional<Answer> take(const SharedVerdict* said) = 0;

  // --- a try
  virtual std::uint32_t upstream() const = 0;  // an index in Config::upstreams
  // Writes the request as it goes out, anew each time, and reads its head into `head`. What that
  // points to, and the body that is returned, stay until the next call. Nullopt: the head has
  // become too large.
  virtual std::optional<std::string_view> request(RequestHead& head) = 0;
  // The try has come to nothing, and the client has not got a byte: whether there is another one.
  virtual bool next() = 0;

  // --- the answer
  enum class OnHead : std::uint8_t {
    take,
    fail,  // a failure of the upstream's: next(), then the upstream's retries, then take
  };
  virtual OnHead head(const ResponseHead& response) = 0;
  // Appends what the client gets of it. False: broken, see failure().
  virtual bool data(std::string_view bytes, std::string& out) = 0;
  // The same for the upstream's end.
  virtual bool end(std::string& out) = 0;
  virtual const std::string& failure() const = 0;
  // Whether there is a head of what data() and end() give: not before something of the answer can
  // go on, and never where answer() is it.
  virtual bool has_head() const = 0;
  // Reads it into `head`, which points to what the next request() changes. False: it is none that
  // can be passed on.
  virtual bool read_head(ResponseHead& head) const = 0;
  // The upstream has the request, and the client what came of the answer: there is no other try,
  // and what was only for one may go.
  virtual void hold_less() = 0;
  // After end(): the answer as a whole.
  virtual std::optional<Answer> answer() = 0;

  // --- what goes wrong
  // In the client's own words.
  virtual Answer refusal(int status, std::string_view reason) = 0;
  // The last bytes of an answer that has begun and cannot go on.
  virtual void break_off(std::string_view reason, std::string& out) = 0;

  // For a trace, about the try under way.
  struct Facts {
    std::string_view operation = {};  // a literal: "chat"
    std::string_view provider = {};   // a literal: the vendor
    std::string_view model = {};
    std::int64_t input_tokens = -1;  // -1: not known
    std::int64_t output_tokens = -1;
  };
  virtual Facts facts() const = 0;

  // How long the next step may take. `answering`: the client has got something.
  virtual std::chrono::nanoseconds patience(bool answering) const = 0;
  // Whether that counts from the request's end, whatever has come of an answer since: nothing of it
  // can go on yet.
  virtual bool waits_for_first() const = 0;
  virtual void ended(Ending ending, int status) = 0;
  // Nullopt: not known yet. Known after ended(), and before, of an answer that is whole.
  virtual std::optional<std::uint64_t> used_tokens() const = 0;
};

}  // namespace sluice::gateway::http
