// The process that watches this node's Pods: from the keeper it gets the API server and the token,
// and tells it who is there. It has no capability but CAP_NET_RAW, for its sockets' mark.
#include <chrono>
#include <cstdlib>
#include <memory>
#include <signal.h>
#include <string_view>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/log.h"
#include "gateway/log_format.h"
#include "gateway/main/channel.h"
#include "gateway/main/command.h"
#include "gateway/main/local_pods.h"
#include "gateway/main/pods_child.h"
#include "gateway/main/sandbox.h"
#include "gateway/main/sealed_memory.h"
#include "gateway/tls/material.h"

namespace sluice::control {
namespace {

namespace protocol = kernel::protocol;
using gateway::log_error;

constexpr std::chrono::seconds kCountsEvery{1};

class PodsProcess {
 public:
  explicit PodsProcess(protocol::OwnedFd channel)
      : pods_(io_, [this](const std::string& pods) { tell(PodsChild::kPods, pods); }), timer_(io_) {
    channel_ = Channel::open(io_, std::move(channel),
                             {.message = [this](protocol::Received received) { handle(received); },
                              .closed = [](const std::string&) { ::_exit(kExitOk); }});
  }

  int run() {
    tell_counts();
    io_.run();
    return kExitFailed;
  }

 private:
  void handle(protocol::Received& received) {
    if (!received.complete())
      return log_error("pods", "out of descriptors; new files are not used");
    if (std::holds_alternative<protocol::Material>(received.message)) {
      const auto bytes = read_memory(received.descriptors.front().get());
      auto material =
          bytes ? gateway::tls::deserialize(bytes->view()) : std::unexpected(bytes.error());
      if (material) material_ = std::move(*material);
    } else if (const auto* request = std::get_if<protocol::Request>(&received.message)) {
      if (const auto question = read_pods_question(request->command))
        pods_.follow(question->kubernetes, material_, question->own_mark);
    }
  }

  void tell(std::uint64_t id, std::string_view text) {
    for (const protocol::Message& piece : protocol::in_pieces(id, text))
      channel_->send(piece);
  }

  void tell_counts() {
    if (std::string counts = to_json(pods_.counts()); counts != told_) {
      told_ = std::move(counts);
      tell(PodsChild::kCounts, told_);
    }
    timer_.expires_after(kCountsEvery);
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) tell_counts();
    });
  }

  boost::asio::io_context io_{1};
  gateway::tls::MaterialPtr material_;
  LocalPods pods_;
  boost::asio::steady_timer timer_;
  std::string told_;
  std::shared_ptr<Channel> channel_;
};

}  // namespace

int run_pods_process(int channel, const std::string& user) {
  // Signals of the terminal and the service manager reach the whole group; the keeper ends us.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1, SIGUSR2})
    ::signal(signal, SIG_IGN);
  ::prctl(PR_SET_NAME, "sluice-pods", 0, 0, 0);
  if (const char* format = std::getenv("SLUICE_LOG_FORMAT");
      format != nullptr && std::string_view(format) == "json")
    gateway::set_log_format(gateway::LogFormat::json);
  if (auto sandbox = enter_gateway_sandbox(user); !sandbox) {
    log_error("kubernetes", "cannot give up privileges", {{"reason", sandbox.error()}});
    return kExitFailed;
  }
  PodsProcess process{protocol::OwnedFd(channel)};
  return process.run();
}

}  // namespace sluice::control
