// sluice_flood INTERFACE MAC SOURCE/LENGTH DESTINATION PORT PACKETS
// TCP SYNs from random sources of a prefix, as fast as the machine can send them, out of an
// interface of this network namespace. For tests: only ever in namespaces of one's own. Prints how
// many it sent in which time, and the CPU time of one: sending, and what the other end of a veth
// does with it, which runs in the sender's softirq.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <flood.skel.h>
#include <linux/if_ether.h>
#include <memory>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace {

constexpr int kBatch = 100'000;  // packets in one call

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "sluice_flood: %s\n", what.c_str());
  std::exit(1);
}

std::vector<std::uint8_t> frame(const char* mac, std::uint32_t to, std::uint16_t port) {
  std::vector<std::uint8_t> out(ETH_HLEN + sizeof(iphdr) + sizeof(tcphdr));
  unsigned octets[6];
  if (std::sscanf(mac, "%x:%x:%x:%x:%x:%x", &octets[0], &octets[1], &octets[2], &octets[3],
                  &octets[4], &octets[5]) != 6)
    fail("MAC is not aa:bb:cc:dd:ee:ff");
  for (std::size_t i = 0; i < 6; ++i)
    out[i] = static_cast<std::uint8_t>(octets[i]);
  out[6] = 2;
  out[12] = 8;
  iphdr ip{};
  ip.version = 4;
  ip.ihl = 5;
  ip.tot_len = htons(sizeof(iphdr) + sizeof(tcphdr));
  ip.ttl = 64;
  ip.protocol = IPPROTO_TCP;
  ip.daddr = htonl(to);
  tcphdr tcp{};
  tcp.dest = htons(port);
  tcp.doff = 5;
  tcp.syn = 1;
  tcp.window = htons(64240);
  std::memcpy(out.data() + ETH_HLEN, &ip, sizeof(ip));
  std::memcpy(out.data() + ETH_HLEN + sizeof(ip), &tcp, sizeof(tcp));
  return out;
}

std::uint32_t address(const std::string& text) {
  in_addr parsed{};
  if (::inet_pton(AF_INET, text.c_str(), &parsed) != 1) fail("not an IPv4 address: " + text);
  return ntohl(parsed.s_addr);
}

double cpu_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) fail("INTERFACE MAC SOURCE/LENGTH DESTINATION PORT PACKETS");
  const std::string source = argv[3];
  const std::size_t slash = source.find('/');
  const int length = slash == std::string::npos ? 32 : std::atoi(source.c_str() + slash + 1);
  const struct {
    std::uint32_t interface_index, source, random;
  } plan{if_nametoindex(argv[1]), address(source.substr(0, slash)),
         length >= 32 ? 0U : 0xffffffffU >> length};
  if (plan.interface_index == 0) fail(std::string("no interface ") + argv[1]);
  const auto bytes = frame(argv[2], address(argv[4]), static_cast<std::uint16_t>(std::atoi(argv[5])));

  const std::unique_ptr<flood_bpf, decltype(&flood_bpf__destroy)> program(flood_bpf__open_and_load(),
                                                                          flood_bpf__destroy);
  if (!program) fail(std::string("cannot load: ") + std::strerror(errno));
  const std::uint32_t zero = 0;
  bpf_map_update_elem(bpf_map__fd(program->maps.flood_plan), &zero, &plan, BPF_ANY);
  const auto begin = std::chrono::steady_clock::now();
  const long wanted = std::atol(argv[6]);
  const double cpu = cpu_seconds();
  for (long sent = 0; sent < wanted; sent += kBatch) {
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes.data(),
                .data_size_in = static_cast<__u32>(bytes.size()), .repeat = kBatch,
                .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
    options.batch_size = 64;
    if (bpf_prog_test_run_opts(bpf_program__fd(program->progs.flood), &options) != 0)
      fail(std::string("live frames: ") + std::strerror(errno));
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%ld packets in %.3f s, %.0f ns of CPU each\n", wanted, took.count(),
              (cpu_seconds() - cpu) * 1e9 / static_cast<double>(wanted));
  return 0;
}
