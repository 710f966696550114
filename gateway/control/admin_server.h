// The admin socket: a Unix socket of mode 0600 that takes one JSON object and answers with one, or
// with a line of JSON whenever there is something to tell, per connection.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>

namespace sluice::gateway {

// --socket, else SLUICE_SOCKET, else /run/sluice/sluice.sock for root, $XDG_RUNTIME_DIR/sluice.sock
// for others, and /tmp/sluice-UID/sluice.sock where there is no such directory.
std::string admin_socket_path(const std::string& given);
// Why nobody is to be trusted at `path`; "": nothing. Anybody can make the place in /tmp before this
// user does, and a socket in it; a path that the user named is the user's own choice.
std::string distrust_of_place(const std::string& path);
// Whether `directory` is one, of this user's, in which nobody else can put anything.
bool is_own_directory(const std::string& directory);

// A connection that is told things until it goes. On the server's thread.
class AdminStream {
 public:
  virtual ~AdminStream() = default;
  virtual bool open() const = 0;
  virtual std::size_t backlog() const = 0;  // bytes that the other side has not taken yet
  virtual void send(const boost::json::object& line) = 0;
};

class AdminServer {
 public:
  // May be called once, at any later time, on `io`'s thread. Never called: the client waits until
  // it gives up.
  using Respond = std::function<void(boost::json::object)>;
  using Handler = std::function<void(const boost::json::object& request, Respond respond)>;

  // Asked before the handler: true when it keeps the stream, which ends with the last reference.
  using StreamHandler = std::function<bool(const boost::json::object& request,
                                           const std::shared_ptr<AdminStream>& stream)>;

  // Listens. A socket that nobody answers on is replaced, a live one refused. The directory is
  // made, 0700, if it is missing. Requests are at most 64 KiB and have 5 s to arrive; at most 32
  // connections at a time. `inherited`: the socket that the program before this one listened on at
  // `path`; owned from here on.
  static std::expected<std::unique_ptr<AdminServer>, std::string> listen(
      boost::asio::io_context& io, const std::string& path, Handler handler,
      StreamHandler streams = {}, int inherited = -1);
  ~AdminServer();  // removes the socket
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  int descriptor() const;  // of the listening socket; stays the server's

 private:
  struct State;
  explicit AdminServer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace sluice::gateway
