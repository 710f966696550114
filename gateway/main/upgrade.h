// One `sluice upgrade`, seen from the keeper: the check, the change of programs, and the way back
// when the next one cannot go on. Documented at hand_over.h.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>

#include "gateway/main/admin_commands.h"
#include "gateway/main/hand_over.h"

namespace sluice::control {

// One thread.
class Upgrade {
 public:
  struct Hooks {
    std::function<std::string()> busy;    // why not now; empty: now
    std::function<HandOver()> hand_over;  // attempt, problem and program are filled in here
    std::function<void()> leaving = {};   // another program comes now
    std::function<void()> stayed = {};    // it did not
  };

  // `from`: what the program before this one handed over, if this is not an ordinary start.
  Upgrade(boost::asio::io_context& io, std::optional<HandOver> from, Hooks hooks);

  const std::optional<HandOver>& from() const { return from_; }
  // This program took over, and its own gateway has to follow (not so after a way back).
  bool under_way() const { return state_ == State::running; }

  // {"command": "upgrade", "attempt": TEXT, "binary": PATH}. Answers once the program has been
  // checked; how it went on is in status() of whichever program runs then.
  void handle(const boost::json::object& request, const AdminCommands::Respond& respond);

  void done();
  // Becomes the program before this one again. Returns when that is impossible: then this one goes
  // on with what it has.
  void go_back(const std::string& problem);

  boost::json::object status() const;
  std::uint32_t count() const { return from_ ? from_->upgrades : 0; }

 private:
  enum class State { none, running, done, failed };

  HandOver next(const std::string& attempt, int own_program) const;
  void hand_over_to(const std::string& program, const std::string& attempt);

  boost::asio::io_context& io_;
  std::optional<HandOver> from_;
  Hooks hooks_;
  State state_ = State::none;
  std::string attempt_;
  std::string error_;
  kernel::protocol::OwnedFd predecessor_;  // its program's file, until this one has succeeded
};

// Where a program has been handed something that it cannot use: becomes the one before it again.
// Returns only when that fails.
void go_back(const HandOver& from, const std::string& problem);

}  // namespace sluice::control
