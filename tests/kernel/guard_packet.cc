#include "tests/kernel/guard_packet.h"

#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <cstring>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "kernel/abi_guard.h"
#include "tests/kernel/sandbox.h"

namespace sluice::kernel::testing {
namespace {

void put16(std::vector<std::uint8_t>& out, std::size_t value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8));
  out.push_back(static_cast<std::uint8_t>(value));
}

bool has_ports(std::uint8_t protocol) {
  return protocol == 6 || protocol == 17 || protocol == 33 || protocol == 132 || protocol == 136;
}

std::vector<std::uint8_t> transport(const Frame& frame) {
  std::vector<std::uint8_t> out;
  if (frame.fragment_offset == 0 && has_ports(frame.protocol)) {
    put16(out, frame.from_port);
    put16(out, frame.to_port);
  } else if (frame.fragment_offset == 0 && (frame.protocol == 1 || frame.protocol == 58)) {
    out.push_back(frame.icmp_type);
    out.insert(out.end(), 3, 0);
  }
  // Bytes that would look like ports if anybody read them where there are none.
  out.insert(out.end(), frame.payload, 0);
  if (frame.fragment_offset == 0 && frame.protocol == 6 && out.size() > 13)
    out[13] = frame.tcp_flags;
  return out;
}

// The headers themselves; `next` of each is filled from the one behind it.
std::vector<std::uint8_t> extension_headers(const Frame& frame) {
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i < frame.extensions.size(); ++i) {
    const std::uint8_t next =
        i + 1 < frame.extensions.size() ? frame.extensions[i + 1] : frame.protocol;
    out.push_back(next);
    if (frame.extensions[i] == 44) {
      out.push_back(0);
      put16(out, static_cast<std::size_t>(frame.fragment_offset) << 3 |
                     (frame.more_fragments ? 1U : 0U));
      out.insert(out.end(), {0, 0, 0, 9});
    } else if (frame.extensions[i] == 51) {
      out.push_back(1);  // (1 + 2) * 4 = 12 bytes
      out.insert(out.end(), 10, 0);
    } else {
      out.push_back(1);  // (1 + 1) * 8 = 16 bytes
      out.insert(out.end(), 14, 0);
    }
  }
  return out;
}

void put_v4(std::vector<std::uint8_t>& out, const Frame& frame) {
  const auto body = transport(frame);
  const std::size_t words = 5 + frame.option_words;
  out.push_back(static_cast<std::uint8_t>(
      0x40 | frame.header_words.value_or(static_cast<std::uint8_t>(words))));
  out.push_back(0);
  put16(out, frame.length.value_or(static_cast<std::uint16_t>(words * 4 + body.size())));
  put16(out, 7);
  put16(out, frame.fragment_offset | (frame.more_fragments ? 0x2000U : 0U));
  out.insert(out.end(), {64, frame.protocol, 0, 0});
  out.insert(out.end(), frame.from.address.begin() + 12, frame.from.address.end());
  out.insert(out.end(), frame.to.address.begin() + 12, frame.to.address.end());
  out.insert(out.end(), frame.option_words * 4, 1);
  out.insert(out.end(), body.begin(), body.end());
}

void put_v6(std::vector<std::uint8_t>& out, const Frame& frame) {
  const auto extensions = extension_headers(frame);
  const auto body = transport(frame);
  out.insert(out.end(), {0x60, 0, 0, 0});
  put16(out, frame.length.value_or(static_cast<std::uint16_t>(extensions.size() + body.size())));
  out.push_back(frame.extensions.empty() ? frame.protocol : frame.extensions.front());
  out.push_back(64);
  out.insert(out.end(), frame.from.address.begin(), frame.from.address.end());
  out.insert(out.end(), frame.to.address.begin(), frame.to.address.end());
  out.insert(out.end(), extensions.begin(), extensions.end());
  out.insert(out.end(), body.begin(), body.end());
}

}  // namespace

std::vector<std::uint8_t> Frame::bytes() const {
  std::vector<std::uint8_t> out{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
  for (const std::uint16_t type : vlan_types) {
    put16(out, type);
    put16(out, 100);
  }
  put16(out, from.v4 ? 0x0800 : 0x86dd);
  if (from.v4) {
    put_v4(out, *this);
  } else {
    put_v6(out, *this);
  }
  return out;
}

Frame tcp(const std::string& from, const std::string& to, std::uint16_t to_port) {
  Frame frame;
  frame.from = prefix(from);
  frame.to = prefix(to);
  frame.to_port = to_port;
  return frame;
}

Frame syn(const std::string& from, const std::string& to, std::uint16_t to_port) {
  Frame frame = tcp(from, to, to_port);
  frame.tcp_flags = 0x02;
  return frame;
}

Frame udp(const std::string& from, const std::string& to, std::uint16_t to_port) {
  Frame frame = tcp(from, to, to_port);
  frame.protocol = 17;
  return frame;
}

Frame icmp(const std::string& from, const std::string& to, std::uint8_t type) {
  Frame frame = tcp(from, to);
  frame.protocol = frame.from.v4 ? 1 : 58;
  frame.icmp_type = type;
  return frame;
}

GuardMatch from(const std::vector<std::string>& texts) {
  GuardMatch match;
  match.from = prefixes(texts);
  return match;
}

GuardMatch to(const std::vector<std::string>& texts) {
  GuardMatch match;
  match.to = prefixes(texts);
  return match;
}

GuardMatch from_ports(std::vector<PortRange> ranges) {
  GuardMatch match;
  match.from_ports = std::move(ranges);
  return match;
}

GuardMatch to_ports(std::vector<PortRange> ranges) {
  GuardMatch match;
  match.to_ports = std::move(ranges);
  return match;
}

GuardMatch operator&(GuardMatch left, const GuardMatch& right) {
  left.from.insert(left.from.end(), right.from.begin(), right.from.end());
  left.to.insert(left.to.end(), right.to.begin(), right.to.end());
  left.from_ports.insert(left.from_ports.end(), right.from_ports.begin(), right.from_ports.end());
  left.to_ports.insert(left.to_ports.end(), right.to_ports.begin(), right.to_ports.end());
  return left;
}

GuardRule drop(const std::string& name, GuardMatch match, GuardMatch except) {
  GuardRule rule;
  rule.name = name;
  rule.match = std::move(match);
  rule.except = std::move(except);
  return rule;
}

GuardRule count(const std::string& name, GuardMatch match, GuardMatch except) {
  GuardRule rule = drop(name, std::move(match), std::move(except));
  rule.action = GuardAction::count;
  return rule;
}

GuardPlan guard_plan(std::vector<GuardRule> rules) {
  GuardPlan plan;
  plan.enabled = true;
  plan.interfaces = {"none-of-these"};
  plan.rules = std::move(rules);
  plan.max_bans = 100;
  return plan;
}

RunningGuard::RunningGuard() : pins(std::move(PinDirectory::open(kPinRoot).value())) {
  reopen();
}

void RunningGuard::reopen() {
  guard.reset();
  auto opened = Guard::open(pins);
  if (!opened) {
    ADD_FAILURE() << opened.error().message;
    std::abort();
  }
  guard = std::move(*opened);
  program_ = pins.get("guard_program");
}

void RunningGuard::apply(const GuardPlan& plan, const std::vector<Protect>& protect,
                         const std::vector<std::uint16_t>& host_ports) {
  const auto prepared = guard->prepare(plan, protect, host_ports);
  ASSERT_TRUE(prepared) << prepared.error().message;
  const auto committed = guard->commit(++generation);
  ASSERT_TRUE(committed) << committed.error().message;
  if (reads_plain_frames) return;
  const protocol::OwnedFd map = pins.get("guard_state");
  const std::uint32_t zero = 0;
  sluice_guard_state state{};
  ASSERT_EQ(bpf_map_lookup_elem(map.get(), &zero, &state), 0);
  EXPECT_EQ(state.frames, 1U);
  state.frames = 0;
  ASSERT_EQ(bpf_map_update_elem(map.get(), &zero, &state, BPF_ANY), 0);
}

void RunningGuard::apply(std::vector<GuardRule> rules, const std::vector<Protect>& protect,
                         const std::vector<std::uint16_t>& host_ports) {
  apply(guard_plan(std::move(rules)), protect, host_ports);
}

int RunningGuard::verdict(const std::vector<std::uint8_t>& bytes, unsigned interface_index,
                          unsigned gso_segments, unsigned gso_size) const {
  return run(program_, bytes, interface_index, gso_segments, gso_size);
}

int RunningGuard::run(const protocol::OwnedFd& program, const std::vector<std::uint8_t>& bytes,
                      unsigned interface_index, unsigned gso_segments, unsigned gso_size) const {
  __sk_buff context{};
  context.ifindex = interface_index;
  context.gso_segs = gso_segments;
  context.gso_size = gso_size;
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes.data(),
              .data_size_in = static_cast<__u32>(bytes.size()));
  if (interface_index != 0 || gso_segments != 0 || gso_size != 0) {
    options.ctx_in = &context;
    options.ctx_size_in = sizeof(context);
  }
  options.repeat = 1;
  if (bpf_prog_test_run_opts(program.get(), &options) != 0) {
    ADD_FAILURE() << "test run of " << bytes.size() << " bytes: " << std::strerror(errno);
    return -1000;
  }
  return static_cast<int>(options.retval);
}

int RunningGuard::verdict_at(Entry entry, const std::vector<std::uint8_t>& bytes,
                             unsigned interface_index) const {
  if (entry == Entry::ingress) return verdict(bytes, interface_index);
  if (entry == Entry::egress) return run(pins.get("guard_program_egress"), bytes, interface_index);
  EXPECT_EQ(interface_index, 0U) << "a test run of XDP is on lo";
  const int verdict = run(pins.get("guard_program_xdp"), bytes, 0);
  return verdict == XDP_DROP ? kDrop : verdict == XDP_PASS ? kPass : verdict;
}

RuleCounter RunningGuard::counter(const std::string& rule) const {
  for (const RuleCounter& counter : guard->rule_counters()) {
    if (counter.rule == rule) return counter;
  }
  ADD_FAILURE() << "no counter of rule " << rule;
  return {};
}

double RunningGuard::sample(const std::string& name, const std::string& label) const {
  for (const Sample& sample : guard->samples()) {
    const bool labelled =
        std::ranges::any_of(sample.labels, [&](const auto& pair) { return pair.second == label; });
    if (sample.name == name && (label.empty() || labelled)) return sample.value;
  }
  ADD_FAILURE() << "no sample " << name << " " << label;
  return -1;
}

}  // namespace sluice::kernel::testing
