// Asks DNS servers, by c-ares on the control thread's io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gateway/upstream/dns_answer.h"

namespace sluice::gateway {

struct DnsReply {
  enum class Verdict : std::uint8_t {
    answered,  // `answer` has records
    empty,     // a server says that there is no such name, or nothing of this type
    failed,    // nobody could say: timeouts, refusals, broken answers
  };
  Verdict verdict = Verdict::failed;
  DnsAnswer answer;
  std::string reason;  // for people: "Timeout while contacting DNS servers"
};

struct DnsResolverOptions {
  std::vector<policy::SocketAddress> servers;                  // none: /etc/resolv.conf's
  std::chrono::nanoseconds timeout = std::chrono::seconds(1);  // for one question to one server
  // SO_MARK of its sockets, so that interception leaves them alone; 0: none.
  std::uint32_t own_mark = 0;
  std::string resolv_conf = "/etc/resolv.conf";
  std::uint16_t port = 53;  // of the servers that resolv.conf names
};

// Control thread only.
class DnsResolver {
 public:
  using Handler = std::function<void(const DnsReply&)>;

  DnsResolver(boost::asio::io_context& io, DnsResolverOptions options);
  ~DnsResolver();  // no handler is called any more

  // Calls `handler` once, later. Search domains and /etc/hosts count as everywhere; when
  // resolv.conf has changed it is read again first.
  void ask(const std::string& name, DnsType type, Handler handler);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
