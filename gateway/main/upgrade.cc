#include "gateway/main/upgrade.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <memory>

#include <boost/asio/post.hpp>

#include "gateway/log.h"
#include "gateway/main/json_text.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::log_error;
using gateway::log_info;
using kernel::protocol::OwnedFd;

constexpr std::array<const char*, 4> kStateNames{"none", "running", "done", "failed"};

// The program that was installed where this one was.
std::string installed_program() {
  std::error_code error;
  std::string path = std::filesystem::read_symlink("/proc/self/exe", error).string();
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return path;
}

std::string by_descriptor(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

}  // namespace

void go_back(const HandOver& from, const std::string& problem) {
  log_error("keeper", "the upgrade failed; going back to the program before",
            {{"reason", problem}});
  HandOver back = from;
  back.problem = problem;
  const auto memory = write_hand_over(back);
  const std::string error =
      memory ? become(by_descriptor(from.program), back, *memory) : memory.error();
  log_error("keeper", "cannot go back", {{"reason", error}});
}

Upgrade::Upgrade(boost::asio::io_context& io, std::optional<HandOver> from, Hooks hooks)
    : io_(io), from_(std::move(from)), hooks_(std::move(hooks)) {
  if (!from_) return;
  attempt_ = from_->attempt;
  error_ = from_->problem;
  state_ = error_.empty() ? State::running : State::failed;
  predecessor_ = OwnedFd(from_->program);
  if (state_ == State::failed) predecessor_.reset();
}

void Upgrade::handle(const json::object& request, const AdminCommands::Respond& respond) {
  if (const std::string busy = under_way() ? "an upgrade is under way" : hooks_.busy();
      !busy.empty())
    return respond(admin_error(busy));
  std::string program = text_of(request, "binary");
  if (program.empty()) program = installed_program();
  const std::string attempt = text_of(request, "attempt");
  const OwnedFd own(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto memory = write_hand_over(next(attempt, own.get()));
  if (!own || !memory)
    return respond(admin_error(memory ? std::strerror(errno) : memory.error()));
  if (auto good = check_program(program, *memory); !good)
    return respond(admin_error("nothing has changed: " + good.error()));
  respond({{"ok", true}, {"attempt", attempt}, {"binary", program}});
  // The answer is on its way before its connection goes with this program.
  boost::asio::post(io_, [this, program, attempt] { hand_over_to(program, attempt); });
}

HandOver Upgrade::next(const std::string& attempt, int own_program) const {
  HandOver out = hooks_.hand_over();
  out.attempt = attempt;
  out.from_version = SLUICE_VERSION;
  out.upgrades = count() + 1;
  out.program = own_program;
  return out;
}

void Upgrade::hand_over_to(const std::string& program, const std::string& attempt) {
  attempt_ = attempt;
  state_ = State::failed;
  error_ = hooks_.busy();
  const OwnedFd own(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (error_.empty()) {
    const HandOver all = next(attempt, own.get());
    const auto memory = write_hand_over(all);
    log_info("keeper", "another program takes over", {{"program", program}});
    if (hooks_.leaving) hooks_.leaving();
    error_ = memory ? become(program, all, *memory) : memory.error();
    if (hooks_.stayed) hooks_.stayed();
  }
  log_error("keeper", "the upgrade failed; nothing has changed", {{"reason", error_}});
}

void Upgrade::done() {
  if (!under_way()) return;
  state_ = State::done;
  predecessor_.reset();
  log_info("keeper", "upgraded", {{"from", from_->from_version}, {"to", SLUICE_VERSION}});
}

void Upgrade::go_back(const std::string& problem) {
  HandOver back = hooks_.hand_over();
  back.attempt = attempt_;
  back.from_version = from_->from_version;
  back.upgrades = from_->upgrades;
  back.program = predecessor_.get();
  if (hooks_.leaving) hooks_.leaving();
  control::go_back(back, problem);
  if (hooks_.stayed) hooks_.stayed();
  state_ = State::failed;
  error_ = problem;
}

json::object Upgrade::status() const {
  json::object out{{"state", kStateNames[static_cast<std::size_t>(state_)]}};
  if (state_ == State::none) return out;
  out["attempt"] = attempt_;
  out["to"] = SLUICE_VERSION;
  if (from_) out["from"] = from_->from_version;
  if (!error_.empty()) out["error"] = error_;
  return out;
}

}  // namespace sluice::control
