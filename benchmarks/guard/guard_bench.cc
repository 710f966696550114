// What a packet costs in the guard: BPF_PROG_TEST_RUN, the least and the median of 41 runs of
// 50,000 repeats each, ns per packet, beside an empty program in the same harness. Short runs,
// since others may use the machine: the least is one that nobody disturbed. Needs root; works in
// network and mount namespaces of its own. Pin it: taskset -c 1 guard_bench.
#include <algorithm>
#include <array>
#include <bpf/bpf.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <linux/bpf.h>
#include <memory>
#include <random>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "kernel/guard.h"
#include "kernel/pins.h"

namespace {

using namespace sluice::kernel;  // NOLINT: one file

constexpr const char* kMount = "/tmp/.sluice-bench-bpf";
constexpr int kRepeat = 50'000;
constexpr int kRuns = 41;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "guard_bench: %s\n", what.c_str());
  std::exit(1);
}

Prefix v4(unsigned a, unsigned b, unsigned c, unsigned d, int length = 32) {
  Prefix prefix{{}, static_cast<std::uint8_t>(96 + length), true};
  prefix.address[10] = prefix.address[11] = 0xff;
  const unsigned bytes[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    prefix.address[static_cast<std::size_t>(12 + i)] = static_cast<std::uint8_t>(bytes[i]);
  return prefix;
}

// A TCP segment of 60 bytes from 198.51.100.7:40000 to 10.0.0.1:80.
std::vector<std::uint8_t> segment() {
  std::vector<std::uint8_t> frame(74);
  const std::uint8_t head[] = {2,   0,    0,   0, 0,  2, 2, 0, 0,    0,    0, 1, 8,
                               0,   0x45, 0,   0, 60, 0, 7, 0, 0,    64,   6, 0, 0,
                               198, 51,   100, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 80};
  std::memcpy(frame.data(), head, sizeof(head));
  return frame;
}

// The same from `source`.
std::vector<std::uint8_t> segment_from(std::uint32_t source) {
  auto frame = segment();
  for (unsigned i = 0; i < 4; ++i)
    frame[26 + i] = static_cast<std::uint8_t>(source >> (24 - 8 * i));
  return frame;
}

// A TCP segment to ::1.
std::vector<std::uint8_t> segment6(const std::array<std::uint8_t, 16>& source) {
  std::vector<std::uint8_t> frame(14 + 40 + 20);
  const std::uint8_t head[] = {2, 0,    0,    0,    0, 2, 2, 0, 0,  0, 0,
                               1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64};
  std::memcpy(frame.data(), head, sizeof(head));
  std::memcpy(frame.data() + 22, source.data(), 16);
  frame[53] = 1;
  const std::uint8_t ports[] = {0x9c, 0x40, 0, 80};
  std::memcpy(frame.data() + 54, ports, sizeof(ports));
  return frame;
}

struct Cost {
  double least;
  double median;
};

Cost ns_per_packet(int program, const std::vector<std::uint8_t>& frame = segment()) {
  std::vector<double> runs;
  for (int run = 0; run < kRuns; ++run) {
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                .data_size_in = static_cast<__u32>(frame.size()), .repeat = kRepeat);
    if (bpf_prog_test_run_opts(program, &options) != 0) fail("test run refused");
    runs.push_back(options.duration);
  }
  std::sort(runs.begin(), runs.end());
  return {runs.front(), runs[runs.size() / 2]};
}

void print(const std::string& what, Cost cost) {
  std::printf("%-56s %5.0f %5.0f ns\n", what.c_str(), cost.least, cost.median);
}

GuardPlan plan(std::vector<GuardRule> rules) {
  GuardPlan out;
  out.enabled = true;
  out.interfaces = {"none"};
  out.rules = std::move(rules);
  return out;
}

GuardRule rule(int number, GuardMatch match) {
  GuardRule out;
  out.name = "r" + std::to_string(number);
  out.match = std::move(match);
  return out;
}

std::vector<GuardRule> by_prefix(int count) {
  std::vector<GuardRule> rules;
  for (int i = 0; i < count; ++i) {
    GuardMatch match;
    match.from = {v4(203, static_cast<unsigned>(i / 250), static_cast<unsigned>(i % 250), 0, 24)};
    rules.push_back(rule(i, std::move(match)));
  }
  return rules;
}

std::vector<GuardRule> mixed(int count) {
  std::vector<GuardRule> rules = by_prefix(count);
  for (int i = 0; i < count; ++i) {
    auto& match = rules[static_cast<std::size_t>(i)].match;
    const auto port = static_cast<std::uint16_t>(8000 + i);
    if (i % 2 == 0) match.to_ports = {{port, port}};
    if (i % 3 == 0) rules[static_cast<std::size_t>(i)].protocol = 17;
  }
  return rules;
}

// Like published lists: 90 % hosts, 7 % /24, the rest /22 to /16, over most of the address space
// but the /24 that the packet comes from.
PrefixSet list4(std::size_t count) {
  std::mt19937 random(4);
  auto out = std::make_shared<std::vector<Prefix>>();
  while (out->size() < count) {
    const std::uint32_t a = 0x01000000U + random() % 0xd0000000U;
    const unsigned kind = random() % 100;
    const int length = kind < 90 ? 32 : kind < 97 ? 24 : 16 + static_cast<int>(random() % 7);
    const std::uint32_t m = a & ~((1ULL << (32 - length)) - 1);
    const std::uint32_t own = 198U << 24 | 51U << 16 | 100U << 8;
    if ((own & ~((1ULL << (32 - std::min(length, 24))) - 1)) == (m & ~0xffU)) continue;
    out->push_back(v4(m >> 24, m >> 16 & 255, m >> 8 & 255, m & 255, length));
  }
  return out;
}

PrefixSet list6(std::size_t count) {
  std::mt19937_64 random(6);
  auto out = std::make_shared<std::vector<Prefix>>();
  const int lengths[] = {32, 40, 48, 48, 48, 56, 64, 64, 64, 128};
  while (out->size() < count) {
    Prefix one{{0x24}, static_cast<std::uint8_t>(lengths[random() % 10]), false};
    for (std::size_t byte = 1; byte * 8 < one.length; ++byte)
      one.address[byte] = static_cast<std::uint8_t>(random());
    one.address[1] &= 0x3f;
    out->push_back(one);
  }
  return out;
}

GuardRule by_set(int number, PrefixSet set) {
  GuardMatch match;
  match.from_sets = {std::move(set)};
  return rule(number, std::move(match));
}

}  // namespace

int main() {
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) fail("needs root");
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  ::mkdir(kMount, 0700);
  if (::mount("bpf", kMount, "bpf", 0, nullptr) != 0) fail("cannot mount bpffs");
  auto pins = PinDirectory::open(std::string(kMount) + "/sluice");
  if (!pins) fail(pins.error().message);
  auto guard = Guard::open(*pins);
  if (!guard) fail(guard.error().message);
  const auto program = pins->get("guard_program");

  const auto apply = [&](const GuardPlan& next) {
    const auto begin = std::chrono::steady_clock::now();
    if (auto ok = (*guard)->prepare(next, {}, {}); !ok) fail(ok.error().message);
    if (auto ok = (*guard)->commit(1); !ok) fail(ok.error().message);
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
  };
  const auto report = [&](const char* what) { print(what, ns_per_packet(program.get())); };

  const bpf_insn empty[] = {
      {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = -1},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  const Descriptor nothing(
      bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "empty", "GPL", empty, 2, nullptr));
  print("empty program (least, median)", ns_per_packet(nothing.get()));
  report("no plan");
  apply(plan({}));
  report("no rules");
  for (const int count : {1, 100, 1000}) {
    const double took = apply(plan(by_prefix(count)));
    report((std::to_string(count) + " rules by source /24, none matching").c_str());
    std::printf("%-52s %6.1f ms\n", "    prepare and commit", took);
  }
  for (const std::size_t count : {1'000UL, 100'000UL, 1'000'000UL}) {
    for (const bool ipv4 : {true, false}) {
      const PrefixSet set = ipv4 ? list4(count) : list6(count);
      const double took = apply(plan({by_set(0, set)}));
      const std::string what =
          "a set of " + std::to_string(count) + (ipv4 ? " IPv4" : " IPv6") + " prefixes, no match";
      print(what, ns_per_packet(program.get(), ipv4 ? segment() : segment6({0x26, 0, 0, 7})));
      // One whose own network is not listed, so that its neighbours match nothing.
      const Prefix& listed = *std::find_if(set->begin(), set->end(),
                                           [](const Prefix& one) { return one.length == 128; });
      if (ipv4) {
        const auto* at = listed.address.data() + 12;
        print("    from a /24 that it touches",
              ns_per_packet(program.get(), segment_from(static_cast<std::uint32_t>(at[0]) << 24 |
                                                        static_cast<std::uint32_t>(at[1]) << 16 |
                                                        static_cast<std::uint32_t>(at[2]) << 8 |
                                                        (at[3] ^ 0x55U))));
      } else {
        auto near = listed.address;
        near[4] ^= 0x55U;
        print("    from a /32 that it touches", ns_per_packet(program.get(), segment6(near)));
      }
      std::printf("%-52s %6.1f ms\n", "    prepare and commit", took);
    }
  }
  std::vector<GuardRule> thousand = mixed(999);
  thousand.push_back(by_set(999, list4(100'000)));
  const double took = apply(plan(std::move(thousand)));
  report("1,000 mixed rules and 100,000 prefixes, none matching");
  std::printf("%-52s %6.1f ms\n", "    prepare and commit", took);
  GuardPlan watched = plan({});
  watched.monitor_services = watched.monitor_sources = true;
  apply(watched);
  report("monitor by service and source, no rules");
  apply(plan(mixed(100)));
  report("100 rules by source, port, protocol, none matching");
  apply(plan({rule(0, {})}));
  report("1 rule, matching: dropped");
  apply(plan({}));
  (void)(*guard)->ban(v4(192, 0, 2, 1), std::chrono::hours(1), "bench");
  report("1 ban, not matching");
  (void)(*guard)->ban(v4(198, 51, 100, 7), std::chrono::hours(1), "bench");
  report("1 ban, matching: dropped");
  GuardPlan many = plan({});
  many.max_bans = 100'000;
  apply(many);
  (void)(*guard)->unban(v4(198, 51, 100, 7));
  for (unsigned i = 0; i < 99'000; ++i)
    (void)(*guard)->ban(v4(20, i >> 16, i >> 8 & 255, i & 255), std::chrono::hours(1), "");
  // One in forty sources shares a bit of the gate with a ban: several, the cheapest counts.
  Cost cost{1e9, 1e9};
  for (std::uint32_t host = 9; host < 14; ++host) {
    const Cost one = ns_per_packet(program.get(), segment_from(0xc6336400U | host));
    if (one.least < cost.least) cost = one;
  }
  print("99,000 bans, none matching", cost);
  ::umount2(kMount, MNT_DETACH);
  ::rmdir(kMount);
  return 0;
}
