// What the kernel says of this process, under the names that Prometheus' client libraries share.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "gateway/metrics.h"

namespace sluice::gateway {

namespace {

// Fields of /proc/self/stat after the command's name (proc(5)); the first is field 3, the state.
std::vector<std::string> stat_fields() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const auto end_of_name = text.rfind(')');
  std::vector<std::string> fields;
  if (end_of_name == std::string::npos) return fields;
  std::istringstream rest(text.substr(end_of_name + 1));
  for (std::string field; rest >> field;)
    fields.push_back(field);
  return fields;
}

double number(const std::vector<std::string>& fields, std::size_t field) {
  const std::size_t index = field - 3;
  return index < fields.size() ? std::strtod(fields[index].c_str(), nullptr) : 0;
}

double cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// Start in clock ticks since boot ─► Unix time.
double start_time(double ticks) {
  timespec now{};
  timespec since_boot{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  ::clock_gettime(CLOCK_BOOTTIME, &since_boot);
  const double boot = static_cast<double>(now.tv_sec - since_boot.tv_sec) +
                      static_cast<double>(now.tv_nsec - since_boot.tv_nsec) / 1e9;
  return boot + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double open_descriptors() {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++count;
  }
  return count > 0 ? count - 1 : 0;  // without the one that reads the directory
}

}  // namespace

std::vector<MetricSample> process_samples() {
  // Fixed at the first call: the clock may be set later, the start does not move.
  static const double started = start_time(number(stat_fields(), 22));
  const auto fields = stat_fields();
  const auto page = static_cast<double>(::sysconf(_SC_PAGESIZE));
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  const auto gauge = [](const char* name, const char* help, double value) {
    return MetricSample{name, help, SampleType::gauge, {}, value};
  };
  std::vector<MetricSample> samples{
      {"process_cpu_seconds_total",
       "User and system CPU time spent, in seconds.",
       SampleType::counter,
       {},
       cpu_seconds()},
      gauge("process_resident_memory_bytes", "Resident memory.", number(fields, 24) * page),
      gauge("process_virtual_memory_bytes", "Virtual memory.", number(fields, 23)),
      gauge("process_max_fds", "File descriptors that may be open.",
            static_cast<double>(descriptors.rlim_cur)),
      gauge("process_start_time_seconds", "Start of the process, in Unix time.", started),
  };
  // A process that must not be dumped may not list its own (proc(5)): no number rather than 0.
  if (const double open = open_descriptors(); open > 0)
    samples.push_back(gauge("process_open_fds", "Open file descriptors.", open));
  return samples;
}

}  // namespace sluice::gateway
