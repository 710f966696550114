// `sluice run --take-over PATH`: one keeper follows another in another container, where no exec can
// put the next program in place (hand_over.h). Both know a Unix socket. The successor gets
// descriptors and words as `sluice upgrade` does, starts its own gateway on them, and takes the
// kernel over when that serves; the predecessor keeps all in force until then, and is as before
// when the successor ends early.
//
//   successor                           predecessor
//   take-over ─────────────────────────►
//             ◄───────────────────────── descriptors, hand-over
//   memory ────────────────────────────►
//             ◄───────────────────────── what its gateway remembers
//   (its own gateway serves)
//   release ───────────────────────────► changes nothing in the kernel any more
//             ◄───────────────────────── released
//   (commits)
//   done ──────────────────────────────► its gateway finishes; it waits to be stopped
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "gateway/main/hand_over.h"
#include "kernel/keeper_protocol.h"

namespace sluice::control {

// The successor's side. Calls block, for 10 s at most.
class Predecessor {
 public:
  // Null: nobody answers at `path`. Errors: it may not hand over now, or says no sense.
  static std::expected<std::unique_ptr<Predecessor>, std::string> ask(const std::string& path);

  HandOver& left() { return left_; }
  bool has_ended() const;
  // Of its gateway, as it is now; empty: it says nothing.
  std::string memory();
  // Until done(), or the end of this object, it changes nothing in the kernel. No error where it
  // has ended by itself: what it left is here.
  std::expected<void, std::string> release();
  void done();
  void close_duplicated();  // what Keeper::open() has taken duplicates of

 private:
  Predecessor(kernel::protocol::OwnedFd socket, HandOver left)
      : socket_(std::move(socket)), left_(std::move(left)) {}

  kernel::protocol::OwnedFd socket_;
  HandOver left_;
};

// Beside the admin socket, in the container's own directory: a container that ended by itself and
// is started again does not take back what it has handed over.
void leave_mark_of_hand_over(const std::string& admin_socket);
bool bears_mark_of_hand_over(const std::string& admin_socket);
void remove_mark_of_hand_over(const std::string& admin_socket);

// The predecessor's side. One thread.
class Succession {
 public:
  struct Hooks {
    std::function<std::string()> busy;  // why not now; empty: it may
    std::function<HandOver()> hand_over;
    std::function<void(std::function<void(std::string)>)> memory;  // of the gateway
    std::function<void()> begin;  // after busy(); give_up() or done() follows
    std::function<void()> release;
    std::function<void(bool released)> give_up;  // the successor ended early
    std::function<void()> done;
  };

  Succession(boost::asio::io_context& io, Hooks hooks);
  ~Succession();  // removes the socket, unless somebody else's is there by now
  Succession(const Succession&) = delete;
  Succession& operator=(const Succession&) = delete;

  std::expected<void, std::string> listen(const std::string& path);

 private:
  class Session;
  void accept();
  void ended(Session& session, bool done);

  boost::asio::io_context& io_;
  Hooks hooks_;
  std::string path_;
  std::uint64_t inode_ = 0;
  std::unique_ptr<boost::asio::posix::stream_descriptor> listening_;
  std::shared_ptr<Session> session_;  // that takes over; one at a time
};

}  // namespace sluice::control
