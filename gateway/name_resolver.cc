#include "gateway/name_resolver.h"

#include <optional>
#include <utility>

#include <boost/asio/post.hpp>

namespace sluice::gateway {

namespace asio = boost::asio;

// Control thread's, but what ask() reads.
struct NameResolver::State {
  asio::io_context& control;
  const std::uint32_t own_mark;
  std::optional<DnsResolver> resolver;  // from the first question on
  bool closed = false;
};

NameResolver::NameResolver(asio::io_context& control, std::uint32_t own_mark)
    : state_(std::make_shared<State>(control, own_mark)) {}

void NameResolver::ask(std::string name, DnsType type, asio::io_context& worker, Handler handler) {
  asio::post(state_->control, [state = state_, name = std::move(name), type, &worker,
                               handler = std::move(handler)]() mutable {
    if (state->closed) return;
    if (!state->resolver)
      state->resolver.emplace(state->control,
                              DnsResolverOptions{.servers = {}, .own_mark = state->own_mark});
    state->resolver->ask(name, type,
                         [&worker, handler = std::move(handler)](const DnsReply& reply) {
                           asio::post(worker, [handler, reply] { handler(reply); });
                         });
  });
}

void NameResolver::close() {
  state_->closed = true;
  state_->resolver.reset();
}

}  // namespace sluice::gateway
