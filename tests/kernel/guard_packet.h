// Crafted frames, and what the guard's program says to them by BPF_PROG_TEST_RUN.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernel/guard.h"
#include "kernel/pins.h"
#include "kernel/plan.h"

namespace sluice::kernel::testing {

// An Ethernet frame with an IP packet; every field can be made to lie.
struct Frame {
  Prefix from;  // hosts of one version
  Prefix to;
  std::uint8_t protocol = 6;
  std::uint16_t from_port = 40000;
  std::uint16_t to_port = 80;
  std::vector<std::uint16_t> vlan_types;  // 0x8100 or 0x88a8, outermost first
  std::size_t option_words = 0;           // IPv4
  std::vector<std::uint8_t> extensions;   // IPv6, outermost first; 44 makes a fragment header
  std::uint16_t fragment_offset = 0;      // in units of 8 bytes
  bool more_fragments = false;
  std::optional<std::uint16_t> length;       // instead of the true total or payload length
  std::optional<std::uint8_t> header_words;  // instead of the true IHL
  std::uint8_t icmp_type = 8;
  std::uint8_t tcp_flags = 0x10;  // ACK
  std::size_t payload = 32;       // behind the ports

  std::vector<std::uint8_t> bytes() const;
};

Frame tcp(const std::string& from, const std::string& to, std::uint16_t to_port = 80);
Frame syn(const std::string& from, const std::string& to, std::uint16_t to_port = 80);
Frame udp(const std::string& from, const std::string& to, std::uint16_t to_port = 80);
Frame icmp(const std::string& from, const std::string& to, std::uint8_t type);

// Fields of a rule, joined by &.
GuardMatch from(const std::vector<std::string>& texts);
GuardMatch to(const std::vector<std::string>& texts);
GuardMatch from_ports(std::vector<PortRange> ranges);
GuardMatch to_ports(std::vector<PortRange> ranges);
GuardMatch operator&(GuardMatch left, const GuardMatch& right);

GuardRule drop(const std::string& name, GuardMatch match = {}, GuardMatch except = {});
GuardRule count(const std::string& name, GuardMatch match = {}, GuardMatch except = {});
GuardPlan guard_plan(std::vector<GuardRule> rules);

inline constexpr int kPass = -1;  // TCX_NEXT
inline constexpr int kDrop = 2;

enum class Entry { ingress, egress, xdp };

// A guard in this sandbox.
struct RunningGuard {
  PinDirectory pins;
  std::unique_ptr<Guard> guard;
  std::uint64_t generation = 0;
  // False: as if the guard hung where frames have no Ethernet header, so that none is read where it
  // lies; from the next apply() on.
  static inline bool reads_plain_frames = true;

  RunningGuard();
  void apply(const GuardPlan& plan, const std::vector<Protect>& protect = {},
             const std::vector<std::uint16_t>& host_ports = {});
  void apply(std::vector<GuardRule> rules, const std::vector<Protect>& protect = {},
             const std::vector<std::uint16_t>& host_ports = {});
  void reopen();  // as the next keeper would

  int verdict(const Frame& frame) const { return verdict(frame.bytes()); }
  int verdict(const std::vector<std::uint8_t>& bytes, unsigned interface_index = 0,
              unsigned gso_segments = 0, unsigned gso_size = 0) const;
  // By whichever entry: kPass or kDrop. Egress and XDP programs are there once a plan needed them.
  int verdict_at(Entry entry, const std::vector<std::uint8_t>& bytes,
                 unsigned interface_index = 0) const;
  RuleCounter counter(const std::string& rule) const;
  std::uint64_t packets(const std::string& rule) const { return counter(rule).packets; }
  double sample(const std::string& name, const std::string& label = {}) const;

 private:
  int run(const protocol::OwnedFd& program, const std::vector<std::uint8_t>& bytes,
          unsigned interface_index, unsigned gso_segments = 0, unsigned gso_size = 0) const;
  protocol::OwnedFd program_;
};

}  // namespace sluice::kernel::testing
