// What becomes of `on_exit: bypass` when nobody is left to clear up (kernel/closed_connections.h).
#include "kernel/closed_connections.h"
#include "kernel/doctor_read.h"

namespace sluice::kernel {

std::vector<Finding> examine_early_demux(const DoctorOptions& options) {
  using Level = Finding::Level;
  if (!bypasses_forward(options.plan))
    return {{"early_demux", Level::good, "no forwarded connection bypasses a dead Sluice", ""}};
  const std::string ip = options.proc_sys + "/net/ipv4/";
  if (read_number(ip + "tcp_early_demux").value_or(1) == 0 ||
      read_number(ip + "ip_early_demux").value_or(1) == 0)
    return {{"early_demux", Level::good, "off: closed connections stop no new ones", ""}};
  return {{"early_demux", Level::note,
           "on: when both processes are killed (kill -9), a client that uses a port again within a "
           "minute does not get through by on_exit: bypass, since the kernel takes its packets for "
           "the closed connection's; after an orderly stop it does",
           "where that matters more than the cost of a route lookup for each local packet, "
           "sysctl -w net.ipv4.tcp_early_demux=0"}};
}

}  // namespace sluice::kernel
