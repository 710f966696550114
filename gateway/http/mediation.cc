// The exchange's part where a mediator stands between the two sides: it collects the request, makes
// the tries that the mediator asks for, and passes the answer through it.
#include <algorithm>

#include "gateway/ai/proxy/call.h"
#include "gateway/clocks.h"
#include "gateway/http/exchange.h"
#include "gateway/http1/head.h"
#include "gateway/http1/request_fields.h"
#include "gateway/redis/limit_leases.h"
#include "gateway/upstream_choice.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

constexpr std::uint64_t kMaxMediated = 32UL << 20;  // bytes of a request, without a max_body

}  // namespace

// --- the request

// Who calls the listener itself was not caught, whichever of its sockets that was.
std::string_view Exchange::left_by() const {
  const WayIn way = listener().way();
  if (way != WayIn::output ||
      !reachable_destination(worker_, way, client_->client().transport->fd()))
    return {};
  return listener().policy().name;
}

bool Exchange::begin_mediation() {
  if (says_switched(200)) {
    refuse(502, "a route of ai does not switch to WebSocket");
    return false;
  }
  mediator_ = ai::make_call(worker_, config_,
                            {.head = &request_,
                             .path = normal_path_,
                             .route = config_->policy().routes[*route_].name,
                             .client = client_address(),
                             .claimed = address_claimed_,
                             .left_by = left_by(),
                             .called = client_->client().decrypted ? host_ : std::string_view()});
  auto answer = mediator_->admit();
  if (!answer) return true;
  answer_mediated(*answer);
  return false;
}

void Exchange::collect() {
  state_ = State::collecting;
  if (body_left_ == kNoLimit) body_left_ = kMaxMediated;
  if (request_.content_length() > body_left_) return request_too_large();
  mediated_.clear();
  if (request_.expect_continue()) ask_for_body();
  client_->take_body(BodyForm::payload);
  collect_more();
}

// RFC 9110 section 10.1.1: nobody else will, since the upstream is asked when all is here.
void Exchange::ask_for_body() {
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  http1::ResponseParser parser;
  ResponseHead head;
  if (parser.parse(kContinue, {}, head) == http1::Progress::complete && client_->interim(head))
    client_->flush();
}

void Exchange::collect_more() {
  while (true) {
    const Piece piece = client_->next();
    switch (piece.part) {
      case Part::data:
        if (piece.data.size() > body_left_) return request_too_large();
        body_left_ -= piece.data.size();
        mediated_.append(piece.data);
        continue;
      case Part::end:
        timer_.cancel();
        return collected();
      case Part::failed:
        return request_broken();
      case Part::none:
      case Part::head:
        break;
    }
    switch (client_->read(nullptr)) {
      case ReadResult::data:
        continue;
      case ReadResult::again:
        worker_.wheel().arm(timer_, timeouts().body_idle);
        return client_->want_read();
      case ReadResult::full:
      case ReadResult::eof:
      case ReadResult::failed:
        return client_gone("client closed within the body");
    }
  }
}

void Exchange::collected() {
  if (auto answer = mediator_->read(std::exchange(mediated_, {}))) return answer_mediated(*answer);
  collected_ = true;
  limit_tokens();
}

// Limits of the route that count tokens: what a call may take is known only now.
void Exchange::limit_tokens() {
  const policy::CompiledRoute& route = config_->snapshot().route(*route_);
  const bool any = std::ranges::any_of(route.limits, [&](const policy::UsedLimit& used) {
    return config_->limit(used.index).counts_tokens();
  });
  if (!any) return take_shares();
  attributes_.add("model", mediator_->model());
  const http1::RequestFields fields(request_, joined_field_);
  switch (gate_.begin_tokens(*config_, route.limits, view(fields, true), route.id,
                             mediator_->tokens(), steady_now())) {
    case LimitGate::Result::passed:
      return take_shares();
    case LimitGate::Result::refused:
      return on_limits_refused();
    case LimitGate::Result::waiting:
      state_ = State::waiting;
      return client_->watch();
  }
}

// What the caller has of its own, which other gateways may count too.
void Exchange::take_shares() {
  shares_ = mediator_->shares();
  if (!shares_) return shared(nullptr);
  shares_->worker = &worker_.io();
  shares_->done = [this](const std::optional<SharedVerdict>& said) {
    timer_.cancel();
    shares_.reset();
    shared(said ? &*said : nullptr);
  };
  worker_.leases().take(shares_);
  worker_.wheel().arm(timer_, config_->policy().redis->deadline);
  state_ = State::waiting;
  client_->watch();
}

void Exchange::shared(const SharedVerdict* said) {
  if (auto answer = mediator_->take(said)) return answer_mediated(*answer);
  use_upstream(mediator_->upstream());
  pick();
}

// --- a try

bool Exchange::begin_mediated() {
  RequestHead head;
  const std::optional<std::string_view> body = mediator_->request(head);
  if (!body) return false;
  http1::RequestForwarding options;
  if (actions_ != nullptr && !actions_->request.empty()) {
    for (const std::string& name : actions_->request.drop)
      head.fields().drop(name);
    request_lines_.clear();
    append_lines(actions_->request, request_lines_);
    options.lines = request_lines_;
  }
  if (!upstream_->begin(head, options, false)) return false;
  if (!body->empty()) {
    upstream_->add(*body);
    upstream_->finish({});
  }
  request_done_ = true;
  return true;
}

// The client has not got a byte: another provider may do better. True: one is asked.
bool Exchange::fail_over(Outcome outcome, int status) {
  if (head_forwarded_ || !mediator_->next()) return false;
  drop_upstream();
  end_attempt(outcome, status);
  tries_ = 0;
  protocol_changes_ = 0;
  fresh_only_ = false;
  use_upstream(mediator_->upstream());
  pick();
  return true;
}

// --- the answer

Exchange::Staged Exchange::stage_mediated() {
  constexpr std::size_t kEnough = 64 * 1024;
  bool progress = false;
  mediated_.clear();
  while (mediated_.size() < kEnough) {
    const Piece piece = upstream_->next();
    switch (piece.part) {
      case Part::none:
        if (!give_mediated()) return Staged::ended;
        if (progress) return Staged::some;
        std::string().swap(mediated_);  // streams are many, and wait most of the time
        return Staged::need_more;
      case Part::head:
        answer_begins();
        if (!mediated_head()) return Staged::ended;
        break;
      case Part::data:
        if (!mediator_->data(piece.data, mediated_)) return mediated_broken();
        break;
      case Part::end:
        return mediated_end();
      case Part::failed:
        if (head_forwarded_ && !mediated_.empty()) client_->add(mediated_);
        answer_broken(upstream_->failure(), upstream_->parse_error() == ParseError::none
                                                ? UpstreamFailure::cut_short
                                                : UpstreamFailure::malformed);
        return Staged::ended;
    }
    progress = true;
  }
  return give_mediated() ? Staged::some : Staged::ended;
}

bool Exchange::mediated_head() {
  const ResponseHead& response = upstream_->response();
  if (response.interim()) {
    if (++interim_ <= kMaxInterim) return true;
    answer_broken("too many interim answers", UpstreamFailure::malformed);
    return false;
  }
  interim_ = 0;  // none of them was passed on
  if (mediator_->head(response) == Mediator::OnHead::fail) {
    const int status = response.status();
    if (fail_over(outcome_of_status(status), status) || retry_for_status()) return false;
  }
  upstream_->take_body(BodyForm::payload);
  return true;
}

// False: the exchange has ended.
bool Exchange::give_mediated() {
  settle_tokens();
  if (!head_forwarded_) {
    if (!mediator_->has_head()) return true;
    ResponseHead head;
    const bool good = mediator_->read_head(head);
    AnswerEdits edits;
    if (good && actions_ != nullptr) edits = edit_answer(head);
    if (!good || !client_->begin(head, edits, false)) {
      answer_broken(http1::reason(ParseError::forwarded_head_too_large),
                    UpstreamFailure::malformed);
      return false;
    }
    head_forwarded_ = true;
    try_timer_.cancel();
    end_retries();
    status_ = head.status();
  }
  if (!mediated_.empty()) client_->add(mediated_);
  return true;
}

Exchange::Staged Exchange::mediated_end() {
  if (!mediator_->end(mediated_)) return mediated_broken();
  settle_tokens();
  if (auto answer = mediator_->answer()) {
    head_forwarded_ = answer_done_ = true;
    send_answer(*answer);
    return Staged::some;
  }
  if (!give_mediated()) return Staged::ended;
  client_->finish({});
  answer_done_ = true;
  return Staged::some;
}

// The upstream has answered in a way that cannot be passed on.
Exchange::Staged Exchange::mediated_broken() {
  count_failure(UpstreamFailure::malformed);
  if (head_forwarded_) {
    if (!mediated_.empty()) client_->add(mediated_);
    cut_short(mediator_->failure());
    return Staged::ended;
  }
  if (fail_over(Outcome::neutral, upstream_->response().status())) return Staged::ended;
  drop_upstream();
  end_attempt(Outcome::neutral);
  auto answer = mediator_->refusal(502, mediator_->failure());
  answer_mediated(answer);
  return Staged::ended;
}

// --- own answers

// What another provider may do better is asked of it first.
void Exchange::refuse_mediated(int status, std::string_view reason,
                               std::span<const ExtraField> extra) {
  const bool trying =
      state_ == State::connecting || state_ == State::backing_off || state_ == State::exchanging;
  if (trying && !deadline_passed_ && status >= 502 && fail_over(Outcome::neutral, 0)) return;
  Mediator::Answer answer = mediator_->refusal(status, reason);
  for (const ExtraField& field : extra)
    answer.lines.append(field.name).append(": ").append(field.value).append("\r\n");
  answer_mediated(answer);
}

void Exchange::answer_mediated(const Mediator::Answer& answer) {
  state_ = State::refusing;
  if (shares_) std::exchange(shares_, nullptr)->done = nullptr;
  gate_.release();
  timer_.cancel();
  send_answer(answer);
  answer_done_ = true;
  rearm();
  relay();
}

void Exchange::send_answer(const Mediator::Answer& answer) {
  status_ = answer.status;
  reason_.assign(answer.reason);
  if (actions_ == nullptr) answer_lines_.clear();
  lines_of_own_answer();
  answer_lines_.append(answer.lines);
  client_->answer({.status = answer.status, .lines = answer_lines_, .body = answer.body});
}

// Before the end of an answer that cannot go on: the client is told why, as far as it takes it.
void Exchange::break_off_mediated(std::string_view reason) {
  mediated_last_.clear();
  mediator_->break_off(reason, mediated_last_);
  if (mediated_last_.empty() || !client_->has_room()) return;
  client_->add(mediated_last_);
  client_->flush();
}

}  // namespace sluice::gateway::http
