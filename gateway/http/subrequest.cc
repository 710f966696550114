#include "gateway/http/subrequest.h"

#include "gateway/upstream_choice.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

std::string_view to_string(SubrequestEnd end) {
  switch (end) {
    case SubrequestEnd::answered:
      return "answered";
    case SubrequestEnd::no_endpoint:
      return "no endpoint";
    case SubrequestEnd::connect_failed:
      return "cannot connect";
    case SubrequestEnd::broken:
      return "broken answer";
    case SubrequestEnd::too_large:
      return "answer too large";
    case SubrequestEnd::timed_out:
      return "timed out";
  }
  return "";
}

bool Subrequest::start(RefPtr<WorkerConfig> config, std::uint32_t upstream,
                       const policy::IpAddress& client, std::chrono::nanoseconds timeout,
                       std::size_t max_answer, SubrequestUser& user) {
  http1::RequestParser parser;
  if (parser.parse(text_, request_) != http1::Progress::complete) return false;
  config_ = std::move(config);
  upstream_index_ = upstream;
  cluster_ = &config_->clusters().at(upstream);
  client_ = client;
  max_answer_ = max_answer;
  user_ = &user;
  if (!try_once(false)) {
    cancel();
    return false;
  }
  worker_.wheel().arm(timer_, timeout);
  return true;
}

void Subrequest::cancel() {
  timer_.cancel();
  user_ = nullptr;
  stream_.reset();
  end_attempt(Outcome::neutral, 0);
  config_.reset();
}

bool Subrequest::try_once(bool fresh) {
  head_seen_ = anything_came_ = false;
  answer_.clear();
  auto attempt = worker_.upstreams().begin(*cluster_, {});
  if (!attempt) {
    worker_.metrics().no_endpoint(config_->slots().upstreams[upstream_index_]);
    return false;
  }
  attempt_ = std::move(*attempt);
  slot_ = endpoint_slot(*config_, upstream_index_, attempt_);
  worker_.metrics().upstream_request_begun(slot_);
  protocol_changes_ = 0;
  return connect(fresh);
}

bool Subrequest::connect(bool fresh) {
  const auto open = [this, fresh] {
    return worker_.upstream_streams().open(attempt_, client_, fresh, false, *this);
  };
  auto stream = open();
  if (!stream && stream.error().reason == ConnectError::connection_limit) {
    stream = worker_.upstreams().open_elsewhere(attempt_, {}, open);
    follow_attempt(worker_, *config_, upstream_index_, attempt_, slot_);
  }
  if (!stream) {
    worker_.metrics().upstream_connect_failed(slot_,
                                              static_cast<std::size_t>(stream.error().reason));
    end_attempt(outcome_of(stream.error().reason), 0);
    return false;
  }
  stream_ = std::move(*stream);
  if (!stream_->connected() || send()) return true;
  const bool stale = stream_->reused() && !fresh;
  stream_.reset();
  end_attempt(stale ? Outcome::neutral : Outcome::reset, 0);
  return stale && try_once(true);
}

bool Subrequest::send() {
  if (stream_->reused()) {
    worker_.metrics().upstream_reused(slot_);
  } else {
    worker_.metrics().upstream_connected(slot_, stream_->connect_time());
  }
  if (!stream_->begin(request_, {}, false)) return false;
  if (!body_.empty()) {
    stream_->add(body_);
    stream_->finish({});
  }
  return pump();
}

bool Subrequest::pump() {
  switch (stream_->flush()) {
    case Flush::done:
      break;
    case Flush::blocked:
      stream_->want_write();
      break;
    case Flush::failed:
      return false;
  }
  stream_->want_read();
  return true;
}

void Subrequest::on_upstream_connected() {
  if (!send()) failed(SubrequestEnd::broken, Outcome::reset);
}

void Subrequest::on_upstream_writable() {
  if (!pump()) failed(SubrequestEnd::broken, Outcome::reset);
}

void Subrequest::on_upstream_connect_failed(const ConnectFailure& failure) {
  constexpr std::uint32_t kMaxProtocolChanges = 3;  // as an exchange
  if (failure.reason == ConnectError::other_protocol &&
      ++protocol_changes_ <= kMaxProtocolChanges) {
    stream_.reset();
    if (!connect(false)) failed(SubrequestEnd::connect_failed, Outcome::neutral);
    return;
  }
  worker_.metrics().upstream_connect_failed(slot_, static_cast<std::size_t>(failure.reason));
  failed(SubrequestEnd::connect_failed, outcome_of(failure.reason));
}

void Subrequest::read_answer() {
  while (true) {
    const Taken taken = take_piece();
    if (taken == Taken::ended) return;
    if (taken == Taken::some) continue;
    switch (stream_->read(nullptr)) {
      case ReadResult::data:
        anything_came_ = true;
        continue;
      case ReadResult::again:
        return stream_->want_read();
      case ReadResult::full:
      case ReadResult::eof:
      case ReadResult::failed:
        break;
    }
    const bool stale = stream_->reused() && !anything_came_;
    if (!stale) return failed(SubrequestEnd::broken, Outcome::reset);
    stream_.reset();
    end_attempt(Outcome::neutral, 0);
    if (!try_once(true)) failed(SubrequestEnd::connect_failed, Outcome::neutral);
    return;
  }
}

Subrequest::Taken Subrequest::take_piece() {
  const Piece piece = stream_->next();
  switch (piece.part) {
    case Part::none:
      return Taken::nothing;
    case Part::head:
      if (stream_->response().interim()) return Taken::some;
      keep_head();
      stream_->take_body(BodyForm::payload);
      if (stream_->response().body() != BodyKind::none) return Taken::some;
      break;
    case Part::data:
      if (piece.data.size() > max_answer_ - answer_.size()) {
        failed(SubrequestEnd::too_large, Outcome::neutral);
        return Taken::ended;
      }
      answer_.append(piece.data);
      return Taken::some;
    case Part::end:
      break;
    case Part::failed:
      failed(SubrequestEnd::broken, Outcome::reset);
      return Taken::ended;
  }
  const int status = response_.status();
  stream_.release()->release(true);
  end_attempt(outcome_of_status(status), status);
  end(SubrequestEnd::answered);
  return Taken::ended;
}

// The stream's head goes with its buffers.
void Subrequest::keep_head() {
  head_seen_ = true;
  response_ = stream_->response();
  answer_head_.assign(stream_->response().bytes());
  response_.rebase(answer_head_.data());
}

void Subrequest::failed(SubrequestEnd how, Outcome outcome) {
  stream_.reset();
  end_attempt(outcome, head_seen_ ? response_.status() : 0);
  end(how);
}

void Subrequest::end_attempt(Outcome outcome, int status) {
  if (!attempt_) return;
  worker_.metrics().upstream_request_ended(slot_, status);
  attempt_.finish(outcome, std::chrono::steady_clock::now());
  attempt_ = {};
}

void Subrequest::end(SubrequestEnd how) {
  timer_.cancel();
  config_.reset();
  if (user_ != nullptr) std::exchange(user_, nullptr)->on_subrequest_ended(*this, how);
}

}  // namespace sluice::gateway::http
