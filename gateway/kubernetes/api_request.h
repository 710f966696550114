// One GET to the API server, on a connection of its own, whose answer is handed on as it comes: a
// watch's goes on for minutes.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>

#include "gateway/kubernetes/api_server.h"

namespace sluice::gateway::kubernetes {

struct ApiReply {
  int status = 0;
  std::chrono::seconds retry_after{0};  // what the server asks for; 0: nothing
};

// One thread. May be destroyed at any time, also inside of an event; none comes after that.
class ApiRequest {
 public:
  struct Events {
    std::function<void(const ApiReply& reply)> head;
    std::function<void(std::string_view bytes)> body;
    // The last one. Empty: the answer is complete.
    std::function<void(const std::string& problem)> ended;
  };

  // `target`: path and query. `silence`: how long the answer's body may pause; its head has
  // kHeadTime from now.
  static constexpr std::chrono::seconds kHeadTime{30};
  ApiRequest(boost::asio::io_context& io, const ApiServer& server, std::string target,
             std::chrono::milliseconds silence, Events events);
  ~ApiRequest();
  ApiRequest(const ApiRequest&) = delete;
  ApiRequest& operator=(const ApiRequest&) = delete;

 private:
  class Connection;
  std::shared_ptr<Connection> connection_;
};

}  // namespace sluice::gateway::kubernetes
