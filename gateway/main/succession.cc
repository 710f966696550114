#include "gateway/main/succession.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <poll.h>
#include <span>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include "gateway/log.h"
#include "gateway/main/sealed_memory.h"
#include "policy/carried_state.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
using gateway::log_info;
using gateway::log_warn;
using kernel::protocol::OwnedFd;

constexpr const char* kTakeOver = "take-over";
constexpr const char* kTellMemory = "memory";
constexpr const char* kRelease = "release";
constexpr const char* kReleased = "released";
constexpr const char* kDone = "done";
constexpr std::size_t kMaxText = 64UL << 10;
constexpr std::size_t kDescriptorsAtOnce = 128;  // the kernel takes 253
constexpr timeval kAnswerLimit{10, 0};

std::unexpected<std::string> failed(const std::string& path, const std::string& what) {
  return std::unexpected("--take-over " + path + ": " + what);
}

std::optional<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return std::nullopt;
  std::ranges::copy(path, address.sun_path);
  return address;
}

OwnedFd seqpacket() {
  return OwnedFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

bool send_message(int socket, std::string_view text, std::span<const int> descriptors = {}) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsAtOnce * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t sent = -1;
  do
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(text.size());
}

struct Message {
  std::string text;  // empty: the other side is gone, or silent
  bool gone = false;
  std::vector<OwnedFd> descriptors;
};

Message receive_message(int socket, int flags = 0) {
  Message out;
  out.text.resize(kMaxText);
  iovec part{out.text.data(), out.text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsAtOnce * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t size = -1;
  do
    size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  while (size < 0 && errno == EINTR);
  out.gone = size == 0 || (size < 0 && errno == ECONNRESET);
  out.text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); size > 0 && head != nullptr;
       head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    std::vector<int> numbers((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(numbers.data(), CMSG_DATA(head), numbers.size() * sizeof(int));
    for (const int number : numbers)
      out.descriptors.emplace_back(number);
  }
  return out;
}

// Who may hand over to whom: processes of one user, or root. What is handed over is the node.
bool is_trusted(int socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         (peer.uid == 0 || peer.uid == ::geteuid());
}

// The descriptors' numbers there, in the order in which they follow: the hand-over, the rest.
std::expected<std::vector<int>, std::string> read_numbers(const std::string& path,
                                                          const std::string& text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error || !value.is_object()) return failed(path, "the sluice there does not answer");
  if (const json::value* problem = value.as_object().if_contains("error"))
    return failed(path, problem->is_string() ? std::string(problem->as_string()) : "refuses");
  std::vector<int> out;
  const json::value* numbers = value.as_object().if_contains("descriptors");
  for (const auto& number :
       numbers != nullptr && numbers->is_array() ? numbers->as_array() : json::array())
    out.push_back(number.is_int64() ? static_cast<int>(number.as_int64()) : -1);
  if (out.empty()) return failed(path, "descriptors are missing");
  return out;
}

// Fewer than `count`: the other side has ended.
std::vector<OwnedFd> receive_descriptors(int socket, std::size_t count) {
  std::vector<OwnedFd> out;
  while (out.size() < count) {
    Message more = receive_message(socket);
    if (more.descriptors.empty()) break;
    std::ranges::move(more.descriptors, std::back_inserter(out));
  }
  return out;
}

std::uint64_t inode_of(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

std::string mark_of(const std::string& admin_socket) {
  return admin_socket + ".handed-over";
}

}  // namespace

void leave_mark_of_hand_over(const std::string& admin_socket) {
  const OwnedFd made(::open(mark_of(admin_socket).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  if (!made) log_warn("keeper", "cannot note the hand-over", {{"reason", std::strerror(errno)}});
}

bool bears_mark_of_hand_over(const std::string& admin_socket) {
  return ::access(mark_of(admin_socket).c_str(), F_OK) == 0;
}

void remove_mark_of_hand_over(const std::string& admin_socket) {
  ::unlink(mark_of(admin_socket).c_str());
}

// --- the successor's side ------------------------------------------------------------------------

std::expected<std::unique_ptr<Predecessor>, std::string> Predecessor::ask(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return failed(path, "too long for a Unix socket (107 bytes)");
  OwnedFd socket = seqpacket();
  if (!socket) return failed(path, std::strerror(errno));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) !=
      0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return nullptr;
    return failed(path, std::strerror(errno));
  }
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerLimit, sizeof(kAnswerLimit));
  if (!is_trusted(socket.get())) return failed(path, "is somebody else's");
  send_message(socket.get(), kTakeOver);  // who refuses beforehand says why

  const auto theirs = read_numbers(path, receive_message(socket.get()).text);
  if (!theirs) return std::unexpected(theirs.error());
  auto received = receive_descriptors(socket.get(), theirs->size());
  if (received.size() != theirs->size())
    return failed(path, "the sluice there ended while it handed over");
  std::map<int, int> ours;
  for (std::size_t i = 0; i < theirs->size(); ++i)
    ours[(*theirs)[i]] = received[i].release();
  const OwnedFd text(ours[(*theirs)[0]]);
  auto left = read_hand_over(text.get(), ours);
  if (!left) return failed(path, left.error());
  return std::unique_ptr<Predecessor>(new Predecessor(std::move(socket), std::move(*left)));
}

bool Predecessor::has_ended() const {
  pollfd socket{.fd = socket_.get(), .events = 0, .revents = 0};
  return ::poll(&socket, 1, 0) == 1 && (socket.revents & POLLHUP) != 0;
}

std::string Predecessor::memory() {
  send_message(socket_.get(), kTellMemory);
  const Message answer = receive_message(socket_.get());
  if (answer.descriptors.empty()) return {};
  return read_memory_text(answer.descriptors.front().get(), policy::CarriedState::kMaxBytes);
}

std::expected<void, std::string> Predecessor::release() {
  send_message(socket_.get(), kRelease);  // what it says last is there even where this fails
  const Message answer = receive_message(socket_.get());
  if (answer.text == kReleased) return {};
  if (!answer.gone)
    return std::unexpected("the sluice before does not answer; it serves on, this one ends");
  log_warn("keeper", "the sluice before has ended by itself; going on with what it left");
  return {};
}

void Predecessor::done() {
  if (!send_message(socket_.get(), kDone))
    log_warn("keeper", "the sluice before has ended", {{"reason", std::strerror(errno)}});
}

void Predecessor::close_duplicated() {
  for (auto& socket : left_.keeper.sockets)
    OwnedFd(std::exchange(socket.fd, -1)).reset();
  OwnedFd(std::exchange(left_.keeper.lock, -1)).reset();
}

// --- the predecessor's side ----------------------------------------------------------------------

class Succession::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Succession& owner, OwnedFd socket)
      : owner_(owner), socket_(owner.io_, socket.release()) {}

  void wait() {
    socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (!error) self->read();
                       });
  }
  void close() { socket_.close(); }
  bool released() const { return released_; }

 private:
  void read() {
    const Message message = receive_message(socket_.native_handle(), MSG_DONTWAIT);
    if (message.text == kTakeOver && !handed_) return hand_over();
    if (message.text == kTellMemory && handed_) return tell_memory();
    if (message.text == kRelease && handed_) {
      owner_.hooks_.release();
      released_ = true;
      send_message(socket_.native_handle(), kReleased);
      return wait();
    }
    owner_.ended(*this, message.text == kDone && released_);
  }

  void hand_over() {
    if (owner_.session_) return refuse("another one is taking over already");
    if (const std::string busy = owner_.hooks_.busy(); !busy.empty()) return refuse(busy);
    owner_.session_ = shared_from_this();
    owner_.hooks_.begin();
    if (auto sent = send_all(); !sent) return refuse(sent.error());
    handed_ = true;
    log_info("keeper", "another sluice is about to take over");
    wait();
  }

  // Nothing goes along where there is nothing, or no memory for it.
  void tell_memory() {
    owner_.hooks_.memory([self = shared_from_this()](const std::string& memory) {
      const auto carried = sealed_memory("sluice-memory", memory);
      const int descriptor = carried ? carried->get() : -1;
      send_message(self->socket_.native_handle(), kTellMemory,
                   std::span(&descriptor, carried ? 1U : 0U));
      self->wait();
    });
  }

  void refuse(const std::string& problem) {
    send_message(socket_.native_handle(), json::serialize(json::object{{"error", problem}}));
    owner_.ended(*this, false);
  }

  std::expected<void, std::string> send_all() {
    HandOver all = owner_.hooks_.hand_over();
    all.gateways.clear();  // are our children, and stay
    all.admin = -1;
    const auto words = write_hand_over(all);
    if (!words) return std::unexpected(words.error());
    std::vector<int> descriptors{words->text.get(), words->policy.get(), words->ticket_keys.get()};
    std::ranges::copy(descriptors_of(all), std::back_inserter(descriptors));
    json::array numbers;
    for (const int number : descriptors)
      numbers.emplace_back(number);
    const int to = socket_.native_handle();
    bool sent = send_message(to, json::serialize(json::object{{"descriptors", numbers}}));
    for (std::span<const int> rest(descriptors); sent && !rest.empty();) {
      const auto batch = rest.first(std::min(rest.size(), kDescriptorsAtOnce));
      sent = send_message(to, "descriptors", batch);
      rest = rest.subspan(batch.size());
    }
    if (!sent) return std::unexpected(std::string(std::strerror(errno)));
    return {};
  }

  Succession& owner_;
  boost::asio::posix::stream_descriptor socket_;
  bool handed_ = false;
  bool released_ = false;
};

Succession::Succession(boost::asio::io_context& io, Hooks hooks)
    : io_(io), hooks_(std::move(hooks)) {}

Succession::~Succession() {
  if (listening_ && inode_ != 0 && inode_of(path_) == inode_) ::unlink(path_.c_str());
}

std::expected<void, std::string> Succession::listen(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return failed(path, "too long for a Unix socket (107 bytes)");
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  // Whoever was there has handed over, or is gone: a new name in one step, so that there is always
  // one.
  const std::string fresh = path + "." + std::to_string(::getpid());
  const auto there = unix_address(fresh);
  if (!there) return failed(path, "too long for a Unix socket (107 bytes)");
  OwnedFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ::unlink(fresh.c_str());
  const mode_t before = ::umask(0177);
  const bool bound =
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*there), sizeof(*there)) == 0;
  ::umask(before);
  if (!bound || ::listen(socket.get(), 4) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0) {
    const std::string problem = std::strerror(errno);
    ::unlink(fresh.c_str());
    return failed(path, problem);
  }
  path_ = path;
  inode_ = inode_of(path);
  listening_ = std::make_unique<boost::asio::posix::stream_descriptor>(io_, socket.release());
  accept();
  return {};
}

void Succession::accept() {
  listening_->async_wait(
      boost::asio::posix::descriptor_base::wait_read,
      [this](const boost::system::error_code& error) {
        if (error) return;
        OwnedFd socket(::accept4(listening_->native_handle(), nullptr, nullptr, SOCK_CLOEXEC));
        // Kept alive by its wait.
        if (socket && is_trusted(socket.get()))
          std::make_shared<Session>(*this, std::move(socket))->wait();
        accept();
      });
}

// A successor that ended before it was done leaves all to us again.
void Succession::ended(Session& session, bool done) {
  session.close();
  if (session_.get() != &session) return;
  const auto kept = std::exchange(session_, nullptr);
  if (done) {
    listening_->close();
    hooks_.done();
  } else {
    log_warn("keeper", "the sluice that was to take over has ended; this one goes on");
    hooks_.give_up(session.released());
  }
}

}  // namespace sluice::control
