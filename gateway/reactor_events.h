// What Asio's reactor keeps to itself of a descriptor (see class Transport, which checks its
// version): the events that it asks epoll for, and those that epoll told of last.
#pragma once

#include <cstdint>

#include <boost/asio/detail/reactor.hpp>

namespace sluice::gateway {

using ReactorDescriptor = boost::asio::detail::reactor::per_descriptor_data;

// What is added counts when epoll is asked the next time, and from then on.
std::uint32_t& asked_events(ReactorDescriptor descriptor);
// Within an operation's perform(): what it is performed for.
std::uint32_t told_events(ReactorDescriptor descriptor);

}  // namespace sluice::gateway
