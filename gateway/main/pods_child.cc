#include "gateway/main/pods_child.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "gateway/kubernetes/watch_samples.h"
#include "gateway/log.h"
#include "gateway/main/json_text.h"
#include "gateway/main/sealed_memory.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
namespace protocol = kernel::protocol;
using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kFirstRest = 1s;
constexpr std::chrono::milliseconds kLongestRest = 30s;

std::optional<json::object> parsed_object(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

std::uint64_t count_in(const json::object& object, std::string_view key) {
  const json::value* found = object.if_contains(key);
  if (found == nullptr) return 0;
  if (found->is_uint64()) return found->as_uint64();
  return found->is_int64() && found->as_int64() > 0 ? static_cast<std::uint64_t>(found->as_int64())
                                                    : 0;
}

bool ask_the_same(const PodsQuestion& a, const PodsQuestion& b) {
  return a.own_mark == b.own_mark && a.kubernetes.server == b.kubernetes.server &&
         a.kubernetes.token == b.kubernetes.token && a.kubernetes.ca == b.kubernetes.ca &&
         a.kubernetes.node == b.kubernetes.node;
}

}  // namespace

bool names_pods(const policy::Config& config) {
  return std::ranges::any_of(config.sets,
                             [](const policy::SetConfig& set) { return set.pods.has_value(); });
}

std::string to_json(const PodsQuestion& question) {
  return json::serialize(json::object{{"server", question.kubernetes.server},
                                      {"token", question.kubernetes.token},
                                      {"ca", question.kubernetes.ca},
                                      {"node", question.kubernetes.node},
                                      {"own_mark", question.own_mark}});
}

std::optional<PodsQuestion> read_pods_question(std::string_view text) {
  const auto object = parsed_object(text);
  if (!object) return std::nullopt;
  PodsQuestion out;
  out.kubernetes.server = text_of(*object, "server");
  out.kubernetes.token = text_of(*object, "token");
  out.kubernetes.ca = text_of(*object, "ca");
  out.kubernetes.node = text_of(*object, "node");
  out.own_mark = static_cast<std::uint32_t>(count_in(*object, "own_mark"));
  return out;
}

std::string to_json(const gateway::kubernetes::WatchCounts& counts) {
  return json::serialize(json::object{{"up", counts.up ? 1 : 0},
                                      {"lists", counts.lists},
                                      {"watches", counts.watches},
                                      {"failures", counts.failures}});
}

std::optional<gateway::kubernetes::WatchCounts> read_watch_counts(std::string_view text) {
  const auto object = parsed_object(text);
  if (!object) return std::nullopt;
  return gateway::kubernetes::WatchCounts{.up = count_in(*object, "up") != 0,
                                          .lists = count_in(*object, "lists"),
                                          .watches = count_in(*object, "watches"),
                                          .failures = count_in(*object, "failures")};
}

PodsChild::PodsChild(boost::asio::io_context& io, std::string user,
                     std::function<void(std::string)> heard)
    : io_(io),
      user_(std::move(user)),
      heard_(std::move(heard)),
      pause_(kFirstRest),
      timer_(io) {}

PodsChild::~PodsChild() = default;

void PodsChild::follow(const policy::Config& config, gateway::tls::MaterialPtr material,
                       std::uint32_t own_mark) {
  if (!names_pods(config) || !config.kubernetes) return stop();
  PodsQuestion next{.kubernetes = *config.kubernetes, .own_mark = own_mark};
  if (child_ && material == material_ && question_ && ask_the_same(*question_, next)) return;
  question_ = std::move(next);
  material_ = std::move(material);
  child_ ? ask() : start();
}

void PodsChild::stop() {
  question_.reset();
  timer_.cancel();
  child_.reset();
  counts_ = {};
}

void PodsChild::rest() {
  if (!question_) return;
  child_.reset();
  start_after(kFirstRest);
}

void PodsChild::start() {
  timer_.cancel();
  pieces_.clear();
  auto child = GatewayChild::spawn(io_, user_,
                                   [this](protocol::Received message) { received(std::move(message)); },
                                   "pods-process");
  if (!child) {
    gateway::log_error("keeper", "nobody watches this node's pods", {{"reason", child.error()}});
    return start_after(std::exchange(pause_, std::min(pause_ * 2, kLongestRest)));
  }
  child_ = std::move(*child);
  gateway::log_info("keeper", "pods are watched", {{"pid", child_->pid()}});
  ask();
}

void PodsChild::start_after(std::chrono::milliseconds pause) {
  timer_.expires_after(pause);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && question_ && !child_) start();
  });
}

// Only of Kubernetes: the process has no use for the keys of certificates.
void PodsChild::ask() {
  gateway::tls::Material material;
  if (material_) {
    const policy::KubernetesConfig& kubernetes = question_->kubernetes;
    if (const auto token = material_->secret(kubernetes.token))
      material.secrets.emplace(kubernetes.token, token);
    if (const auto ca = material_->authority(kubernetes.ca))
      material.authorities.emplace(kubernetes.ca, ca);
  }
  auto memory = sealed_memory("sluice-pods", gateway::tls::serialize(material).view());
  if (!memory) {
    gateway::log_error("keeper", "nobody watches this node's pods", {{"reason", memory.error()}});
    return;
  }
  std::vector<protocol::OwnedFd> descriptors;
  descriptors.push_back(std::move(*memory));
  child_->send(protocol::Material{}, std::move(descriptors));
  child_->send(protocol::Request{.id = kPods, .command = to_json(*question_)});
}

void PodsChild::received(protocol::Received received) {
  const auto* reply = std::get_if<protocol::Reply>(&received.message);
  if (reply == nullptr) return child_->kill();
  if (reply->id == kCounts) {
    if (const auto counts = read_watch_counts(reply->text)) counts_ = *counts;
    return;
  }
  pieces_ += reply->text;
  if (pieces_.size() > kMaxText) return child_->kill();
  if (!reply->last) return;
  pause_ = kFirstRest;
  heard_(std::exchange(pieces_, {}));
}

void PodsChild::child_signal() {
  if (!child_) return;
  const std::string how = child_->reap();
  if (how.empty()) return;
  gateway::log_error("keeper", "who watches this node's pods has ended; what was heard last holds",
                     {{"pid", child_->pid()}, {"how", how}});
  child_.reset();
  counts_.up = false;
  if (question_) start_after(std::exchange(pause_, std::min(pause_ * 2, kLongestRest)));
}

std::vector<gateway::MetricSample> PodsChild::samples() const {
  std::vector<gateway::MetricSample> out;
  if (question_) gateway::kubernetes::add_watch_samples("pods", "node", counts_, out);
  return out;
}

}  // namespace sluice::control
