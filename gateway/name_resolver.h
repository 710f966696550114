// What names stand for, asked by any worker and answered on its own thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>

#include "gateway/upstream/dns_resolver.h"

namespace sluice::gateway {

class NameResolver {
 public:
  using Handler = std::function<void(const DnsReply&)>;

  NameResolver(boost::asio::io_context& control, std::uint32_t own_mark);

  // Any thread. `handler` is posted to `worker` once, unless close() comes before.
  void ask(std::string name, DnsType type, boost::asio::io_context& worker, Handler handler);
  // Control thread: answers nobody any more. Before the workers go.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
