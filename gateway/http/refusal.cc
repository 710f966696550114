// Refusals: short, plain, and safe to read by whoever gets them.
#include <algorithm>
#include <charconv>

#include "gateway/http/exchange.h"
#include "gateway/http/grpc.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

void Exchange::refuse(int status, std::string_view reason, std::span<const ExtraField> extra) {
  constexpr std::size_t kMaxShown = 512;
  // A place in a queue that outlived this would call for another answer.
  end_attempt(Outcome::neutral);
  if (mediator_) return refuse_mediated(status, reason, extra);
  state_ = State::refusing;
  gate_.release();
  timer_.cancel();
  status_ = status;
  reason_.assign(reason);
  if (grpc_ && !says_switched(200)) return refuse_call(reason);
  std::array<char, kMaxShown + 16> body;
  char* end = std::ranges::copy(std::string_view("sluice: "), body.begin()).out;
  end = std::ranges::copy(reason.substr(0, kMaxShown), end).out;
  *end++ = '\n';
  std::array<ExtraField, 6> fields{{{"Content-Type", "text/plain; charset=utf-8"}}};
  std::size_t count = 1;
  if (status == 405) fields[count++] = {"Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"};
  for (const ExtraField& field : extra.first(std::min(extra.size(), fields.size() - count)))
    fields[count++] = field;
  client_->answer({.status = status,
                   .fields = std::span(fields).first(count),
                   .lines = lines_of_own_answer(),
                   .body = {body.begin(), end}});
  answer_done_ = true;
  rearm();
  relay();
}

void Exchange::refuse_after(int status, std::string_view reason,
                            std::uint64_t retry_after_seconds) {
  std::array<char, 20> seconds;
  char* last = std::to_chars(seconds.begin(), seconds.end(), retry_after_seconds).ptr;
  const std::array<ExtraField, 1> field{{{"Retry-After", {seconds.begin(), last}}}};
  refuse(status, reason, field);
}

// A caller of gRPC reads its own status, in a head that is all there is (Trailers-Only).
void Exchange::refuse_call(std::string_view reason) {
  grpc_status_ = grpc::status_for(status_);
  const std::string status = std::to_string(grpc_status_);
  const std::string message = grpc::message_of(reason);
  const std::array<ExtraField, 3> fields{
      {{"content-type", "application/grpc"}, {"grpc-status", status}, {"grpc-message", message}}};
  status_ = 200;
  client_->answer(
      {.status = status_, .fields = fields, .lines = lines_of_own_answer(), .call = true});
  answer_done_ = true;
  rearm();
  relay();
}

}  // namespace sluice::gateway::http
