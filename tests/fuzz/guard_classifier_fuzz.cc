// Frames of any bytes, judged by the guard's program in the kernel (BPF_PROG_TEST_RUN) and by a
// reader that was written from DESIGN's rules and shares no code with it. Needs root: it works in
// namespaces of its own.
//
// The first byte chooses one of a few rule sets, each loaded once.
#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <cstring>
#include <map>
#include <memory>
#include <net/if.h>
#include <optional>
#include <sched.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "kernel/guard.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::kernel;
using sluice::fuzz::require;

using Address = std::array<std::uint8_t, 16>;

// --- the reader ----------------------------------------------------------------------------------

struct Readout {
  int version = 0;  // 0: not IP, or too broken to hold both addresses: passes
  Address from{}, to{};
  int protocol = -1;                // -1: not known
  int from_port = -1, to_port = -1;  // -1: none
  int icmp_type = -1;
};

class Reader {
 public:
  explicit Reader(std::basic_string_view<std::uint8_t> frame) : frame_(frame) {}

  Readout read() {
    std::size_t at = 14;
    int type = big_endian(12);
    for (int tags = 0; tags < 2 && (type == 0x8100 || type == 0x88a8); ++tags) {
      if (at + 4 > frame_.size()) return seen_;
      type = big_endian(at + 2);
      at += 4;
    }
    if (type == 0x0800) v4(at);
    if (type == 0x86dd) v6(at);
    return seen_;
  }

 private:
  int big_endian(std::size_t at) const { return frame_[at] << 8 | frame_[at + 1]; }
  bool has(std::size_t at, std::size_t bytes) const { return at + bytes <= frame_.size(); }

  void v4(std::size_t at) {
    if (!has(at, 20) || frame_[at] >> 4 != 4) return;
    const std::size_t header = (frame_[at] & 15U) * 4;
    const auto total = static_cast<std::size_t>(big_endian(at + 2));
    if (header < 20 || total < 20) return;
    seen_.version = 4;
    mapped(at + 12, seen_.from);
    mapped(at + 16, seen_.to);
    seen_.protocol = frame_[at + 9];
    if ((big_endian(at + 6) & 0x1fff) != 0) return;  // a later fragment
    transport(at + header, total > header ? total - header : 0);
  }

  void mapped(std::size_t at, Address& to) const {
    to = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::copy_n(frame_.begin() + static_cast<std::ptrdiff_t>(at), 4, to.begin() + 12);
  }

  void v6(std::size_t at) {
    if (!has(at, 40) || frame_[at] >> 4 != 6) return;
    seen_.version = 6;
    std::copy_n(frame_.begin() + static_cast<std::ptrdiff_t>(at) + 8, 16, seen_.from.begin());
    std::copy_n(frame_.begin() + static_cast<std::ptrdiff_t>(at) + 24, 16, seen_.to.begin());
    auto left = static_cast<std::size_t>(big_endian(at + 4));
    int next = frame_[at + 6];
    if (left == 0 && next == 0) left = std::size_t{1} << 31;  // a jumbogram (RFC 2675)
    at += 40;
    for (int i = 0; is_extension(next); ++i) {
      if (i == 8 || left < 8 || !has(at, 4)) return;  // too many, or cut short: no protocol
      std::size_t size = 8;
      if (next == 44) {
        if ((big_endian(at + 2) & 0xfff8) != 0) {
          seen_.protocol = frame_[at];
          return;
        }
      } else {
        size = next == 51 ? (frame_[at + 1] + 2U) * 4 : (frame_[at + 1] + 1U) * 8;
      }
      if (size > left) return;
      next = frame_[at];
      at += size;
      left -= size;
    }
    seen_.protocol = next;
    transport(at, left);
  }

  static bool is_extension(int next) {
    constexpr std::array<int, 8> kExtensions{0, 43, 44, 51, 60, 135, 139, 140};
    return std::ranges::find(kExtensions, next) != kExtensions.end();
  }

  void transport(std::size_t at, std::size_t left) {
    constexpr std::array<int, 5> kWithPorts{6, 17, 33, 132, 136};
    if (std::ranges::find(kWithPorts, seen_.protocol) != kWithPorts.end()) {
      if (left < 4 || !has(at, 4)) return;
      seen_.from_port = big_endian(at);
      seen_.to_port = big_endian(at + 2);
    } else if (seen_.protocol == (seen_.version == 4 ? 1 : 58) && left >= 1 && has(at, 1)) {
      seen_.icmp_type = frame_[at];
    }
  }

  std::basic_string_view<std::uint8_t> frame_;
  Readout seen_;
};

bool vital(const Readout& seen) {
  const int type = seen.icmp_type;
  if (type >= 0) {
    if (seen.version == 4) return type == 3 || type == 11 || type == 12;
    return (type >= 1 && type <= 4) || (type >= 130 && type <= 137) || type == 143;
  }
  if (seen.protocol != 17 || seen.to_port < 0) return false;
  const auto bootp = [](int port) { return port == 67 || port == 68; };
  return seen.version == 6 ? seen.to_port == 546 || seen.to_port == 547
                           : bootp(seen.to_port) && bootp(seen.from_port);
}

bool in(const std::vector<Prefix>& prefixes, const Address& address, bool v4) {
  return prefixes.empty() || std::ranges::any_of(prefixes, [&](const Prefix& prefix) {
           if (prefix.v4 != v4) return false;
           for (int bit = 0; bit < prefix.length; ++bit) {
             const auto mask = static_cast<std::uint8_t>(0x80 >> bit % 8);
             const auto byte = static_cast<std::size_t>(bit) / 8;
             if ((prefix.address[byte] & mask) != (address[byte] & mask)) return false;
           }
           return true;
         });
}

bool in(const std::vector<PortRange>& ranges, int port) {
  return ranges.empty() || std::ranges::any_of(ranges, [port](const PortRange& range) {
           return range.first <= port && port <= range.last;
         });
}

bool holds(const GuardMatch& match, const Readout& seen) {
  const bool v4 = seen.version == 4;
  return in(match.from, seen.from, v4) && in(match.to, seen.to, v4) &&
         in(match.from_ports, seen.from_port) && in(match.to_ports, seen.to_port);
}

bool drops(const GuardRule& rule, const Readout& seen) {
  const GuardMatch& e = rule.except;
  const bool excepts =
      !e.from.empty() || !e.to.empty() || !e.from_ports.empty() || !e.to_ports.empty();
  return rule.action == GuardAction::drop && holds(rule.match, seen) &&
         (!rule.protocol || *rule.protocol == seen.protocol) && !(excepts && holds(e, seen));
}

// --- the rule sets -------------------------------------------------------------------------------

Prefix v4(std::array<std::uint8_t, 4> octets, int length) {
  Prefix out;
  out.length = static_cast<std::uint8_t>(96 + length);
  out.v4 = true;
  out.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, octets[0], octets[1], octets[2], octets[3]};
  return out;
}

Prefix v6(std::array<std::uint8_t, 4> first, int length) {
  Prefix out;
  out.length = static_cast<std::uint8_t>(length);
  std::ranges::copy(first, out.address.begin());
  return out;
}

GuardRule rule(std::string name, GuardMatch match, GuardMatch except = {},
               std::optional<std::uint8_t> protocol = {}) {
  GuardRule out;
  out.name = std::move(name);
  out.match = std::move(match);
  out.except = std::move(except);
  out.protocol = protocol;
  return out;
}

// Fields of a match; what is not named is empty.
struct Fields {
  std::vector<Prefix> from = {};
  std::vector<Prefix> to = {};
  std::vector<PortRange> from_ports = {};
  std::vector<PortRange> to_ports = {};
  operator GuardMatch() const {  // NOLINT: that is what it is for
    GuardMatch out;
    out.from = from;
    out.to = to;
    out.from_ports = from_ports;
    out.to_ports = to_ports;
    return out;
  }
};

std::vector<std::vector<GuardRule>> rule_sets() {
  return {
      {rule("all4", Fields{.from = {v4({0, 0, 0, 0}, 0)}})},
      {rule("all6", Fields{.from = {v6({}, 0)}})},
      {rule("ports", Fields{.to_ports = {{22, 22}, {8000, 8999}}}),
       rule("source", Fields{.from_ports = {{0, 0}}})},
      {rule("tcp", Fields{.to = {v4({10, 0, 0, 0}, 8), v6({0x20, 0x01, 0x0d, 0xb8}, 32)}}, {}, 6),
       rule("icmp", {}, Fields{.from = {v4({10, 1, 0, 0}, 16)}}, 1), rule("sctp", {}, {}, 132)},
      {rule("edge", Fields{.from = {v4({128, 0, 0, 0}, 1), v6({0x80}, 1)}},
            Fields{.to = {v4({10, 0, 0, 1}, 32)}, .to_ports = {{80, 80}}})},
  };
}

// --- the kernel's side ---------------------------------------------------------------------------

constexpr const char* kMountPoint = "/tmp/.sluice-fuzz-bpf";

void enter_namespaces() {
  require(::unshare(CLONE_NEWNET | CLONE_NEWNS) == 0, "needs root, for namespaces of its own");
  require(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
  ::mkdir(kMountPoint, 0700);
  require(::mount("bpf", kMountPoint, "bpf", 0, nullptr) == 0, "a bpffs");
  // Resolvers are protected, and this machine's are not known to the reader.
  require(::mount("/dev/null", "/etc/resolv.conf", nullptr, MS_BIND, nullptr) == 0, "no resolvers");
  const int socket = ::socket(AF_INET, SOCK_DGRAM, 0);
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = IFF_UP;
  ::ioctl(socket, SIOCSIFFLAGS, &lo);
  ::close(socket);
}

struct Loaded {
  std::vector<GuardRule> rules;
  PinDirectory pins;
  std::unique_ptr<Guard> guard;
  sluice::kernel::protocol::OwnedFd program;
};

Loaded load(std::vector<GuardRule> rules, std::size_t number) {
  const std::string root = std::string(kMountPoint) + "/" + std::to_string(number);
  ::mkdir(root.c_str(), 0700);
  Loaded out{.rules = std::move(rules),
             .pins = std::move(PinDirectory::open(root).value()),
             .guard = {},
             .program = {}};
  return out;
}

std::vector<std::unique_ptr<Loaded>> load_all() {
  enter_namespaces();
  std::vector<std::unique_ptr<Loaded>> all;
  for (auto& rules : rule_sets()) {
    auto one = std::make_unique<Loaded>(load(std::move(rules), all.size()));
    auto guard = Guard::open(one->pins);
    require(guard.has_value(), "the guard loads");
    one->guard = std::move(*guard);
    GuardPlan plan;
    plan.enabled = true;
    plan.interfaces = {"none-of-these"};
    plan.rules = one->rules;
    require(one->guard->prepare(plan, {}, {}).has_value(), "the rules compile");
    require(one->guard->commit(1).has_value(), "the rules are put in force");
    one->program = one->pins.get("guard_program");
    all.push_back(std::move(one));
  }
  return all;
}

// None: a frame that the kernel makes no packet of, such as an IP header cut short (EINVAL).
std::optional<int> verdict(const Loaded& loaded, std::basic_string_view<std::uint8_t> frame) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
              .data_size_in = static_cast<std::uint32_t>(frame.size()));
  options.repeat = 1;
  const int result = bpf_prog_test_run_opts(loaded.program.get(), &options);
  if (result == -EINVAL) return std::nullopt;
  require(result == 0, "the kernel runs it");
  return static_cast<int>(options.retval);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr int kPass = -1;  // TCX_NEXT
  constexpr int kDrop = 2;
  constexpr std::size_t kLeast = 14;  // an Ethernet header: the kernel's own condition
  constexpr std::size_t kMost = 1500;
  static const std::vector<std::unique_ptr<Loaded>> all = load_all();
  if (size < 1 + kLeast || size > 1 + kMost) return 0;
  const Loaded& loaded = *all[data[0] % all.size()];
  const std::basic_string_view<std::uint8_t> frame(data + 1, size - 1);
  const Readout seen = Reader(frame).read();
  const bool dropped =
      seen.version != 0 && !vital(seen) &&
      std::ranges::any_of(loaded.rules, [&](const GuardRule& r) { return drops(r, seen); });
  const auto found = verdict(loaded, frame);
  require(!found || *found == (dropped ? kDrop : kPass), "kernel and reader agree");
  return 0;
}
