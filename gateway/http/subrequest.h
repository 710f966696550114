// A request of the gateway's own to an upstream, on the pools that clients' requests use: external
// authorization, JWKS, mirrored requests. Small answers only; one try, and one more where a pooled
// connection was stale.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/http/stream.h"
#include "gateway/timer_wheel.h"
#include "gateway/upstream/upstream_worker.h"
#include "gateway/worker_config.h"

namespace sluice::gateway {
class Worker;
}

namespace sluice::gateway::http {

class Subrequest;

enum class SubrequestEnd : std::uint8_t {
  answered,
  no_endpoint,
  connect_failed,
  broken,     // the connection or the answer
  too_large,  // the answer, of which the head is known
  timed_out,
};
std::string_view to_string(SubrequestEnd end);

class SubrequestUser {
 public:
  // The last word about it; it may be destroyed or begun anew from within. Never called from within
  // start().
  virtual void on_subrequest_ended(Subrequest& subrequest, SubrequestEnd end) = 0;

 protected:
  ~SubrequestUser() = default;
};

// Its worker's thread only. May be used again once it has ended.
class Subrequest final : private UpstreamEvents {
 public:
  explicit Subrequest(Worker& worker) : worker_(worker) {}
  ~Subrequest() { cancel(); }

  // Before start(): the head as HTTP/1.1 with its empty line (Content-Length where there is a
  // body), and the body.
  std::string& head() { return text_; }
  std::string& body() { return body_; }

  // `upstream`: an index into the policy's. `client`: for upstreams with source_address: client.
  // False: it could not even begin, and `user` hears nothing.
  bool start(RefPtr<WorkerConfig> config, std::uint32_t upstream, const policy::IpAddress& client,
             std::chrono::nanoseconds timeout, std::size_t max_answer, SubrequestUser& user);
  void cancel();  // nobody hears of it
  bool active() const { return user_ != nullptr; }

  // Until start() or cancel(): whether the answer's head came, even if no more of it did, …
  bool has_head() const { return head_seen_; }
  // … what it was, and after `answered` the body.
  const ResponseHead& response() const { return response_; }
  std::string_view answer() const { return answer_; }

 private:
  // `ended`: it may be destroyed, or have begun anew.
  enum class Taken : std::uint8_t { some, nothing, ended };

  bool try_once(bool fresh);
  bool connect(bool fresh);  // for the attempt under way
  bool send();
  bool pump();
  void read_answer();
  Taken take_piece();
  void keep_head();
  void failed(SubrequestEnd end, Outcome outcome);
  void end(SubrequestEnd end);
  void end_attempt(Outcome outcome, int status);
  void on_upstream_connected() override;
  void on_upstream_connect_failed(const ConnectFailure& failure) override;
  void on_upstream_readable() override { read_answer(); }
  void on_upstream_writable() override;
  void on_timer() { failed(SubrequestEnd::timed_out, Outcome::timeout); }

  Worker& worker_;
  RefPtr<WorkerConfig> config_;
  const Cluster* cluster_ = nullptr;
  std::uint32_t upstream_index_ = 0;
  policy::IpAddress client_;
  SubrequestUser* user_ = nullptr;
  std::size_t max_answer_ = 0;
  std::string text_;
  std::string body_;
  RequestHead request_;
  Attempt attempt_;
  EndpointSlot slot_{};
  UpstreamStreamPtr stream_;
  std::uint32_t protocol_changes_ = 0;
  bool head_seen_ = false;
  bool anything_came_ = false;
  std::string answer_head_;  // as text, so that it outlives the stream
  ResponseHead response_;
  std::string answer_;
  WheelTimer timer_ = WheelTimer::calling<&Subrequest::on_timer>(this);
};

}  // namespace sluice::gateway::http
