#include "gateway/control/admin_server.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <system_error>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>

#include "kernel/keeper_protocol.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using asio::local::stream_protocol;
using kernel::protocol::OwnedFd;
using namespace std::chrono_literals;

constexpr std::size_t kMaxRequest = 24UL << 20;  // `plan` and `apply` bring a policy
constexpr std::size_t kMaxSessions = 32;
constexpr auto kReadTimeout = 5s;
constexpr auto kWriteTimeout = 30s;

std::unexpected<std::string> failure(const std::string& path, const std::string& what) {
  return std::unexpected("admin socket " + path + ": " + what);
}

bool fits(const std::string& path) {
  return path.size() < sizeof(sockaddr_un::sun_path);
}

// True when somebody accepts on it.
bool is_live(const std::string& path) {
  const OwnedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return fd &&
         (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
          errno == EAGAIN);
}

std::expected<void, std::string> make_place(const std::string& path) {
  const auto directory = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!directory.empty() && !std::filesystem::exists(directory, error)) {
    if (directory.has_parent_path())
      std::filesystem::create_directories(directory.parent_path(), error);
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
      return failure(path, "cannot make " + directory.string() + ": " + std::strerror(errno));
  }
  if (const std::string why = distrust_of_place(path); !why.empty()) return failure(path, why);
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return {};
  if (!S_ISSOCK(status.st_mode)) return failure(path, "is there already and is not a socket");
  if (is_live(path))
    return failure(
        path, "another sluice answers here; stop it (sluice drain), or name another with --socket");
  if (::unlink(path.c_str()) != 0) return failure(path, std::strerror(errno));
  return {};
}

// Where there is no directory for what runs.
std::string place_in_tmp() {
  return "/tmp/sluice-" + std::to_string(::geteuid());
}

json::object error_response(const std::string& message) {
  return {{"ok", false}, {"error", message}};
}

}  // namespace

std::string admin_socket_path(const std::string& given) {
  if (!given.empty()) return given;
  if (const char* from_environment = std::getenv("SLUICE_SOCKET");
      from_environment != nullptr && *from_environment != '\0')
    return from_environment;
  if (::geteuid() == 0) return "/run/sluice/sluice.sock";
  if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime == '/')
    return std::string(runtime) + "/sluice.sock";
  return place_in_tmp() + "/sluice.sock";
}

bool is_own_directory(const std::string& directory) {
  struct stat status {};
  return ::lstat(directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
         status.st_uid == ::geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

std::string distrust_of_place(const std::string& path) {
  const std::string place = place_in_tmp();
  struct stat status {};
  if (std::filesystem::path(path).parent_path() != place || ::lstat(place.c_str(), &status) != 0 ||
      is_own_directory(place))
    return {};
  return place +
         " is not a directory of this user's alone; remove it, or name another socket with "
         "--socket";
}

struct AdminServer::State : std::enable_shared_from_this<AdminServer::State> {
  State(asio::io_context& context, Handler callback, StreamHandler stream_callback)
      : io(context),
        acceptor(context),
        pause(context),
        handler(std::move(callback)),
        streams(std::move(stream_callback)) {}

  class Session;
  void accept();

  asio::io_context& io;
  stream_protocol::acceptor acceptor;
  asio::steady_timer pause;
  Handler handler;
  StreamHandler streams;
  std::string path;
  struct stat identity{};
  std::size_t sessions = 0;
};

// One connection: reads a line (or all until the end), hands it on, writes the answer, closes; or
// writes lines until either side has enough.
class AdminServer::State::Session : public AdminStream,
                                    public std::enable_shared_from_this<Session> {
 public:
  Session(const std::shared_ptr<State>& server, stream_protocol::socket socket)
      : server_(server), socket_(std::move(socket)), timer_(server->io), buffer_(kMaxRequest) {
    ++server->sessions;
  }
  ~Session() override {
    if (const auto server = server_.lock()) --server->sessions;
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  bool open() const override { return socket_.is_open(); }
  std::size_t backlog() const override { return text_.size() + queued_.size(); }
  void send(const json::object& line) override {
    if (!open()) return;
    queued_ += json::serialize(line);
    queued_ += '\n';
    if (text_.empty()) write_queued();
  }

  void start() {
    limit(kReadTimeout);
    asio::async_read_until(
        socket_, buffer_, '\n',
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
          self->timer_.cancel();
          if (error && error != asio::error::eof && error != asio::error::not_found) return;
          self->handle(error == asio::error::not_found);
        });
  }

 private:
  void limit(std::chrono::seconds duration) {
    timer_.expires_after(duration);
    timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
      const auto self = weak.lock();
      if (error || !self) return;
      boost::system::error_code ignored;
      self->socket_.close(ignored);
    });
  }

  void handle(bool too_long) {
    const auto server = server_.lock();
    if (!server) return;
    if (too_long) return respond(error_response("the request is longer than 24 MiB"));
    const auto data = buffer_.data();
    const std::string_view text(static_cast<const char*>(data.data()), data.size());
    boost::system::error_code error;
    json::parse_options strict;
    strict.max_depth = 8;
    const json::value request = json::parse(text, error, {}, strict);
    if (error || !request.is_object())
      return respond(error_response("the request is not a JSON object"));
    if (server->streams && server->streams(request.as_object(), shared_from_this()))
      return wait_for_end();
    server->handler(request.as_object(), [self = shared_from_this()](json::object response) {
      self->respond(std::move(response));
    });
  }

  // Nothing more is expected of the other side but that it goes.
  void wait_for_end() {
    socket_.async_wait(stream_protocol::socket::wait_read,
                       [weak = weak_from_this()](const boost::system::error_code&) {
                         const auto self = weak.lock();
                         if (!self) return;
                         boost::system::error_code ignored;
                         self->socket_.close(ignored);
                       });
  }

  void write_queued() {
    text_.swap(queued_);
    limit(kWriteTimeout);
    asio::async_write(
        socket_, asio::buffer(text_),
        [self = shared_from_this()](const boost::system::error_code& error, std::size_t) {
          self->timer_.cancel();
          self->text_.clear();
          boost::system::error_code ignored;
          if (error) self->socket_.close(ignored);
          if (!error && !self->queued_.empty()) self->write_queued();
        });
  }

  void respond(json::object response) {
    if (responded_) return;
    responded_ = true;
    text_ = json::serialize(response);
    text_ += '\n';
    limit(kWriteTimeout);
    asio::async_write(socket_, asio::buffer(text_),
                      [self = shared_from_this()](const boost::system::error_code&, std::size_t) {
                        self->timer_.cancel();
                        boost::system::error_code ignored;
                        self->socket_.shutdown(stream_protocol::socket::shutdown_both, ignored);
                        self->socket_.close(ignored);
                      });
  }

  std::weak_ptr<State> server_;
  stream_protocol::socket socket_;
  asio::steady_timer timer_;
  asio::streambuf buffer_;
  std::string text_;    // being written
  std::string queued_;  // of a stream: after that
  bool responded_ = false;
};

void AdminServer::State::accept() {
  acceptor.async_accept([weak = weak_from_this()](const boost::system::error_code& error,
                                                  stream_protocol::socket socket) {
    const auto self = weak.lock();
    if (!self || error == asio::error::operation_aborted) return;
    if (error) {  // out of descriptors: later
      self->pause.expires_after(100ms);
      self->pause.async_wait([weak](const boost::system::error_code& cancelled) {
        const auto again = weak.lock();
        if (again && !cancelled) again->accept();
      });
      return;
    }
    if (self->sessions < kMaxSessions) std::make_shared<Session>(self, std::move(socket))->start();
    self->accept();
  });
}

std::expected<std::unique_ptr<AdminServer>, std::string> AdminServer::listen(
    asio::io_context& io, const std::string& path, Handler handler, StreamHandler streams,
    int inherited) {
  if (!fits(path)) return failure(path, "the path is too long for a Unix socket (107 bytes)");
  if (inherited >= 0) {
    auto state = std::make_shared<State>(io, std::move(handler), std::move(streams));
    state->path = path;
    boost::system::error_code error;
    state->acceptor.assign(stream_protocol(), inherited, error);
    if (error) return failure(path, error.message());
    ::lstat(path.c_str(), &state->identity);
    state->accept();
    return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
  }
  if (auto made = make_place(path); !made) return std::unexpected(made.error());

  auto state = std::make_shared<State>(io, std::move(handler), std::move(streams));
  state->path = path;
  boost::system::error_code error;
  state->acceptor.open(stream_protocol(), error);
  if (error) return failure(path, error.message());
  ::fcntl(state->acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
  // The socket is made 0600: there is no moment in which others could connect.
  const mode_t before = ::umask(0177);
  state->acceptor.bind(stream_protocol::endpoint(path), error);
  ::umask(before);
  if (error) return failure(path, error.message());
  state->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return failure(path, error.message());
  ::lstat(path.c_str(), &state->identity);
  state->accept();
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
}

AdminServer::AdminServer(std::shared_ptr<State> state) : state_(std::move(state)) {}

int AdminServer::descriptor() const {
  return state_->acceptor.native_handle();
}

AdminServer::~AdminServer() {
  // Only our own socket: a successor may have put its own there.
  struct stat now{};
  if (::lstat(state_->path.c_str(), &now) == 0 && now.st_ino == state_->identity.st_ino &&
      now.st_dev == state_->identity.st_dev)
    ::unlink(state_->path.c_str());
  boost::system::error_code ignored;
  state_->acceptor.close(ignored);
  state_->pause.cancel();
}

}  // namespace sluice::gateway
