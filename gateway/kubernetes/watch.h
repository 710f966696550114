// A collection of the Kubernetes API, kept up to date: listed once, then watched from there on
// ("Efficient detection of changes", kubernetes.io/docs/reference/using-api/api-concepts).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "gateway/kubernetes/api_request.h"

namespace sluice::gateway::kubernetes {

struct WatchOptions {
  std::string path;      // "/api/v1/pods"
  std::string selector;  // of the query, percent-encoded: "fieldSelector=spec.nodeName%3Dn1"; or ""
  std::string name;      // for people: "endpointslices of shop/api"
  std::chrono::milliseconds first_pause{250};       // after a failure; doubles …
  std::chrono::milliseconds longest_pause{30'000};  // … up to this
  std::chrono::seconds duration{300};  // after which the server ends a watch; up to twice as long
};

struct WatchCounts {
  bool up = false;  // the server answers
  std::uint64_t lists = 0;
  std::uint64_t watches = 0;  // that began
  std::uint64_t failures = 0;
};

// One thread. While the server cannot be asked nothing is said, so that what is known stays; it is
// tried again ever less often. A watch that ends or breaks off goes on from the last version that
// was seen; only where the server no longer knows that version (410) all is listed anew.
class Watch {
 public:
  struct Events {
    std::function<void(const boost::json::array& items)> listed;  // all that there is
    std::function<void(const boost::json::object& item)> put;     // is there, or is another
    std::function<void(const boost::json::object& item)> removed;
  };

  Watch(boost::asio::io_context& io, WatchOptions options, ApiServer server, Events events);
  ~Watch() { ++*turn_; }  // not inside of an event
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // For the requests from now on: a token that was replaced does not end a watch that stands, and is
  // tried at once where there is none. Another place ends it.
  void use(const ApiServer& server);
  const WatchCounts& counts() const { return counts_; }

 private:
  static constexpr int kGone = 410;

  void list();
  void next_page(const std::string& query);
  void page_ended(const std::string& problem);
  void watch();
  void watch_bytes(std::string_view bytes);
  void event(std::string_view line);
  void too_old();
  void error_event(const boost::json::object& status);
  void watch_ended(const std::string& problem);
  void ask(const std::string& query, std::chrono::milliseconds silence,
           std::function<void(const ApiReply&)> head, std::function<void(std::string_view)> body,
           std::function<void(const std::string&)> ended);
  void refused(const std::string& problem, bool again_from_start);
  void answered();
  void go_on();
  void after(std::chrono::milliseconds pause);
  void failed(const std::string& problem);
  void again(bool from_start);
  std::string reason() const;  // of a reply that is no 200

  boost::asio::io_context& io_;
  const WatchOptions options_;
  ApiServer server_;
  Events events_;
  WatchCounts counts_;
  std::minstd_rand random_;
  boost::asio::steady_timer timer_;
  std::unique_ptr<ApiRequest> request_;
  ApiReply reply_;             // of the request under way
  std::string received_;       // of its body, what is not done with
  boost::json::array items_;   // of the list under way
  std::string list_version_ = "0";  // what to list: "0" from the server's cache, "": the latest
  std::string version_;             // the last one seen; "": must be listed
  std::chrono::milliseconds pause_;
  std::chrono::steady_clock::time_point began_;  // the watch under way
  std::string failing_;                          // why, as it was said; "": it does not
  std::shared_ptr<std::uint64_t> turn_ = std::make_shared<std::uint64_t>(0);  // a timer's of before means nothing
};

// For selectors: all but letters, digits, `-`, `.`, `_` as %XX.
std::string percent_encoded(std::string_view text);

}  // namespace sluice::gateway::kubernetes
