// A small HTTP/1.1 server for people and scrapers: the metrics page, the console. Off the hot path.
#pragma once

#include <chrono>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include "policy/address.h"

namespace sluice::gateway {

struct PageRequest {
  const boost::beast::http::request<boost::beast::http::string_body>& message;
  policy::IpAddress peer;
};

struct PageAnswer {
  unsigned status = 200;
  std::string body = {};
  std::string content_type = "text/plain; charset=utf-8";
  std::vector<std::pair<std::string, std::string>> fields =
      {};  // names and values, beyond the usual
};

class PageServer {
 public:
  // Called once, at any later time, on `io`'s thread. Never called: the connection is closed when
  // its time is over.
  using Respond = std::function<void(PageAnswer)>;
  // `request` is valid during the call only.
  using Handler = std::function<void(const PageRequest& request, Respond respond)>;

  struct Limits {
    std::size_t connections = 32;
    std::size_t head = 8 * 1024;  // bytes
    std::size_t body = 0;         // bytes
    std::chrono::seconds timeout{
        10};  // for a request to come, for its answer, for that to be taken
    unsigned requests_per_connection = 1000;
  };

  // `name` stands before errors: "metrics.bind". Runs on the thread of `io`.
  PageServer(boost::asio::io_context& io, std::string name, Limits limits, Handler handler);
  ~PageServer();  // closes at once
  PageServer(const PageServer&) = delete;
  PageServer& operator=(const PageServer&) = delete;

  // Listens there; none: closes. An unchanged address keeps its socket; a changed one listens
  // before the old one is closed. On error all stays as it was.
  std::expected<void, std::string> configure(const std::optional<policy::SocketAddress>& bind);

  // Listens on `listening`, which others have bound to `bind`; owned from here on.
  std::expected<void, std::string> adopt(int listening, const policy::SocketAddress& bind);

  std::optional<policy::SocketAddress> local_address() const;  // the real port for port 0

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
