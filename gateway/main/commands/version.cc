#include <array>
#include <iostream>
#include <sys/utsname.h>

#include <boost/version.hpp>

#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "kernel/keeper_protocol.h"

namespace sluice::control {
namespace {

constexpr std::array kOptions{kOutputOption};

int version(const Arguments& arguments) {
  utsname system{};
  ::uname(&system);
  if (arguments.get("output") == "json") {
    std::cout << boost::json::serialize(
                     boost::json::object{{"version", SLUICE_VERSION},
                                         {"keeper_protocol", kernel::protocol::kVersion},
                                         {"boost", BOOST_LIB_VERSION},
                                         {"compiler", __VERSION__},
                                         {"kernel", system.release}})
              << '\n';
    return kExitOk;
  }
  std::cout << "sluice " SLUICE_VERSION "\n";
  return kExitOk;
}

}  // namespace

const Command kVersionCommand{
    .name = "version",
    .words = "",
    .summary = "Print the version.",
    .details =
        "With --output json also those of the compiler, the kernel and the keeper's protocol.",
    .options = kOptions,
    .run = version,
};

}  // namespace sluice::control
