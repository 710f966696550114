#include "gateway/upstream/dns_resolver.h"

#include <algorithm>
#include <ares.h>
#include <ares_nameser.h>
#include <netdb.h>
#include <optional>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unordered_map>
#include <utility>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/log.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr int kTries = 2;

// Which resolv.conf was read: another file in its place, or another content, is another one.
struct FileIdentity {
  ino_t inode = 0;
  off_t size = 0;
  timespec modified{};
  bool operator==(const FileIdentity& other) const {
    return inode == other.inode && size == other.size && modified.tv_sec == other.modified.tv_sec &&
           modified.tv_nsec == other.modified.tv_nsec;
  }
};

FileIdentity identity_of(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return {};
  return {found.st_ino, found.st_size, found.st_mtim};
}

bool says_nothing_there(int status) {
  return status == ARES_ENODATA || status == ARES_ENOTFOUND;
}

}  // namespace

// The channel, and the descriptors that it waits for. Shared with the waits that are under way.
struct DnsResolver::State : std::enable_shared_from_this<DnsResolver::State> {
  struct Watch {
    explicit Watch(asio::io_context& io) : descriptor(io) {}
    asio::posix::stream_descriptor descriptor;
    bool readable = false;  // wanted
    bool writable = false;
    bool reading = false;  // a wait is under way
    bool writing = false;
  };
  struct Question {
    State* state;
    DnsType type;
    Handler handler;
  };

  State(asio::io_context& context, DnsResolverOptions settings)
      : io(context), options(std::move(settings)), timer(io) {}

  // --- the channel ---
  bool open();
  void close();
  void open_again_if_changed();
  void ask(const std::string& name, DnsType type, Handler handler);
  bool answer_from_hosts(const std::string& name, DnsType type, const Handler& handler);

  // --- its descriptors and clock ---
  void watch(ares_socket_t fd, bool readable, bool writable);
  void wait_read(ares_socket_t fd, const std::shared_ptr<Watch>& watch);
  void wait_write(ares_socket_t fd, const std::shared_ptr<Watch>& watch);
  void process(ares_socket_t readable, ares_socket_t writable);
  void arm();

  static void on_state(void* data, ares_socket_t fd, int readable, int writable) {
    static_cast<State*>(data)->watch(fd, readable != 0, writable != 0);
  }
  static int on_socket(ares_socket_t fd, int type, void* data);
  static void on_answer(void* data, int status, int timeouts, unsigned char* bytes, int size);

  asio::io_context& io;
  const DnsResolverOptions options;
  asio::steady_timer timer;
  ares_channel channel = nullptr;
  FileIdentity read_from;
  std::unordered_map<ares_socket_t, std::shared_ptr<Watch>> watches;
  bool closed = false;
};

// --- the channel ---

bool DnsResolver::State::open() {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  if (library != ARES_SUCCESS) return false;
  ares_options wanted{};
  wanted.timeout = static_cast<int>(
      std::chrono::duration_cast<std::chrono::milliseconds>(options.timeout).count());
  wanted.tries = kTries;
  wanted.sock_state_cb = &on_state;
  wanted.sock_state_cb_data = this;
  std::string path = options.resolv_conf;
  wanted.resolvconf_path = path.data();
  wanted.udp_port = options.port;
  wanted.tcp_port = options.port;
  const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB |
                   ARES_OPT_RESOLVCONF | ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT;
  read_from = identity_of(options.resolv_conf);
  if (const int status = ares_init_options(&channel, &wanted, mask); status != ARES_SUCCESS) {
    log_error("dns", "cannot be set up", {{"error", ares_strerror(status)}});
    channel = nullptr;
    return false;
  }
  ares_set_socket_configure_callback(channel, &on_socket, this);
  std::string servers;
  for (const policy::SocketAddress& server : options.servers)
    servers.append(servers.empty() ? "" : ",").append(server.to_string());
  if (!servers.empty()) ares_set_servers_ports_csv(channel, servers.c_str());
  return true;
}

// Questions under way fail.
void DnsResolver::State::close() {
  if (channel != nullptr) ares_destroy(std::exchange(channel, nullptr));
  timer.cancel();
  for (const auto& [fd, watch] : watches)
    watch->descriptor.release();
  watches.clear();
}

void DnsResolver::State::open_again_if_changed() {
  if (!options.servers.empty() || identity_of(options.resolv_conf) == read_from) return;
  log_info("dns", "reading the servers again", {{"file", options.resolv_conf}});
  close();
  open();
}

void DnsResolver::State::ask(const std::string& name, DnsType type, Handler handler) {
  open_again_if_changed();
  if (channel == nullptr && !open()) {
    asio::post(io, [self = shared_from_this(), handler = std::move(handler)] {
      if (!self->closed) handler({.answer = {}, .reason = "c-ares cannot be set up"});
    });
    return;
  }
  if (answer_from_hosts(name, type, handler)) return;
  auto question = std::make_unique<Question>(Question{this, type, std::move(handler)});
  ares_search(channel, name.c_str(), ns_c_in, static_cast<int>(type), &on_answer,
              question.release());  // on_answer takes it back, whatever happens
  arm();
}

bool DnsResolver::State::answer_from_hosts(const std::string& name, DnsType type,
                                           const Handler& handler) {
  if (type == DnsType::srv) return false;
  hostent* host = nullptr;
  const int family = type == DnsType::a ? AF_INET : AF_INET6;
  if (ares_gethostbyname_file(channel, name.c_str(), family, &host) != ARES_SUCCESS) return false;
  DnsReply reply{.verdict = DnsReply::Verdict::answered, .answer = {}, .reason = "hosts file"};
  for (char** entry = host->h_addr_list; *entry != nullptr; ++entry) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(*entry);
    if (type == DnsType::a) {
      reply.answer.addresses.push_back(
          policy::IpAddress::v4(std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
                                std::uint32_t{bytes[2]} << 8 | bytes[3]));
    } else {
      policy::IpAddress::Bytes address{};
      std::copy_n(bytes, address.size(), address.begin());
      reply.answer.addresses.emplace_back(address);
    }
  }
  ares_free_hostent(host);
  std::ranges::sort(reply.answer.addresses);
  asio::post(io, [self = shared_from_this(), handler, reply = std::move(reply)] {
    if (!self->closed) handler(reply);
  });
  return true;
}

int DnsResolver::State::on_socket(ares_socket_t fd, int /*type*/, void* data) {
  const std::uint32_t mark = static_cast<State*>(data)->options.own_mark;
  if (mark == 0) return 0;
  return ::setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0 ? 0 : -1;
}

// Posted, so that no handler runs within ares: it may ask again, or destroy the resolver.
void DnsResolver::State::on_answer(void* data, int status, int /*timeouts*/, unsigned char* bytes,
                                   int size) {
  const std::unique_ptr<Question> question(static_cast<Question*>(data));
  State& state = *question->state;
  if (state.closed) return;
  DnsReply reply;
  reply.reason = ares_strerror(status);
  if (says_nothing_there(status)) {
    reply.verdict = DnsReply::Verdict::empty;
  } else if (status == ARES_SUCCESS) {
    auto answer = parse_dns_answer({bytes, static_cast<std::size_t>(size)}, question->type);
    if (!answer) {
      reply.reason = "malformed answer";
    } else {
      reply.verdict = answer->empty() ? DnsReply::Verdict::empty : DnsReply::Verdict::answered;
      reply.answer = std::move(*answer);
    }
  }
  asio::post(state.io, [self = state.shared_from_this(), handler = std::move(question->handler),
                        reply = std::move(reply)] {
    if (!self->closed) handler(reply);
  });
}

// --- its descriptors and clock ---

void DnsResolver::State::watch(ares_socket_t fd, bool readable, bool writable) {
  const auto found = watches.find(fd);
  if (!readable && !writable) {
    if (found == watches.end()) return;
    found->second->descriptor.release();  // c-ares closes it
    watches.erase(found);
    return;
  }
  std::shared_ptr<Watch> watch = found == watches.end() ? nullptr : found->second;
  if (!watch) {
    watch = std::make_shared<Watch>(io);
    error_code error;
    watch->descriptor.assign(fd, error);
    if (error) return;  // the question will time out
    watches.emplace(fd, watch);
  }
  watch->readable = readable;
  watch->writable = writable;
  wait_read(fd, watch);
  wait_write(fd, watch);
}

void DnsResolver::State::wait_read(ares_socket_t fd, const std::shared_ptr<Watch>& watch) {
  if (!watch->readable || std::exchange(watch->reading, true)) return;
  watch->descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                               [self = shared_from_this(), fd, watch](const error_code& error) {
                                 watch->reading = false;
                                 if (error || !watch->descriptor.is_open()) return;
                                 self->process(fd, ARES_SOCKET_BAD);
                                 if (watch->descriptor.is_open()) self->wait_read(fd, watch);
                               });
}

void DnsResolver::State::wait_write(ares_socket_t fd, const std::shared_ptr<Watch>& watch) {
  if (!watch->writable || std::exchange(watch->writing, true)) return;
  watch->descriptor.async_wait(asio::posix::stream_descriptor::wait_write,
                               [self = shared_from_this(), fd, watch](const error_code& error) {
                                 watch->writing = false;
                                 if (error || !watch->descriptor.is_open()) return;
                                 self->process(ARES_SOCKET_BAD, fd);
                                 if (watch->descriptor.is_open()) self->wait_write(fd, watch);
                               });
}

void DnsResolver::State::process(ares_socket_t readable, ares_socket_t writable) {
  if (channel == nullptr) return;
  ares_process_fd(channel, readable, writable);
  arm();
}

void DnsResolver::State::arm() {
  timeval next{};
  if (channel == nullptr || ares_timeout(channel, nullptr, &next) == nullptr) {
    timer.cancel();
    return;
  }
  // Rounded up, so that it does not fire in vain.
  timer.expires_after(std::chrono::seconds(next.tv_sec) +
                      std::chrono::milliseconds(next.tv_usec / 1000 + 1));
  timer.async_wait([self = shared_from_this()](const error_code& error) {
    if (!error) self->process(ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  });
}

DnsResolver::DnsResolver(asio::io_context& io, DnsResolverOptions options)
    : state_(std::make_shared<State>(io, std::move(options))) {}

DnsResolver::~DnsResolver() {
  state_->closed = true;
  state_->close();
}

void DnsResolver::ask(const std::string& name, DnsType type, Handler handler) {
  state_->ask(name, type, std::move(handler));
}

}  // namespace sluice::gateway
