#include "tests/kernel/topology.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include "tests/kernel/sandbox.h"

namespace sluice::kernel::testing {
namespace {

Fd current_namespace() {
  return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

void enter(const Fd& netns) {
  ASSERT_EQ(::setns(netns.get(), CLONE_NEWNET), 0);
}

Fd new_namespace(const Fd& back) {
  EXPECT_EQ(::unshare(CLONE_NEWNET), 0);
  shell("ip link set lo up");
  Fd made = current_namespace();
  enter(back);
  return made;
}

// Moves one end of a veth pair, named `peer`, into another namespace.
void join(const std::string& here, const std::string& peer, const Fd& netns) {
  const std::string other =
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(netns.get());
  shell("ip link add " + here + " type veth peer name " + peer + " netns " + other +
        " && ip link set " + here + " up");
}

void within(const Fd& netns, const Fd& back, const std::function<void()>& body) {
  enter(netns);
  body();
  enter(back);
}

}  // namespace

Topology::Topology()
    : node_(current_namespace()), client_(new_namespace(node_)), origin_(new_namespace(node_)) {
  // Duplicate address detection would hold IPv6 back for a second.
  const std::string no_dad =
      "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0";
  shell(no_dad);
  in_client([&] { shell(no_dad); });
  in_origin([&] { shell(no_dad); });
  join("toclient", "eth0", client_);
  join("toorigin", "eth0", origin_);
  shell(
      "ip addr add 10.1.0.1/24 dev toclient; ip addr add fd01::1/64 dev toclient nodad;"
      "ip addr add 10.2.0.1/24 dev toorigin; ip addr add fd02::1/64 dev toorigin nodad;"
      "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
  in_client([] {
    shell(
        "ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0; ip addr add fd01::2/64 dev eth0 "
        "nodad;"
        "ip route add default via 10.1.0.1; ip -6 route add default via fd01::1");
  });
  in_origin([] {
    shell(
        "ip link set eth0 up; ip addr add 10.2.0.2/24 dev eth0; ip addr add fd02::2/64 dev eth0 "
        "nodad;"
        "ip route add default via 10.2.0.1; ip -6 route add default via fd02::1");
  });
}

Topology::~Topology() = default;

void Topology::in_client(const std::function<void()>& body) const {
  within(client_, node_, body);
}
void Topology::in_origin(const std::function<void()>& body) const {
  within(origin_, node_, body);
}

Fd Topology::connect_from_client(const std::string& address, std::uint16_t port,
                                 int seconds) const {
  Fd fd;
  int error = 0;
  in_client([&] {
    fd = connect_to(address, port, "", seconds);
    error = errno;
  });
  errno = error;
  return fd;
}

Fd Topology::listen_at_origin(const std::string& address, std::uint16_t port) const {
  Fd fd;
  in_origin([&] { fd = listen_on(address, port); });
  EXPECT_TRUE(fd) << address << " " << port;
  return fd;
}

}  // namespace sluice::kernel::testing
