#include "gateway/main/hand_over.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json.hpp>

#include "gateway/control/last_good.h"
#include "gateway/main/kernel_plan.h"
#include "gateway/tls/ticket_keys.h"

namespace sluice::control {
namespace {

namespace json = boost::json;
namespace protocol = kernel::protocol;
using protocol::OwnedFd;

constexpr const char* kVariable = "SLUICE_HAND_OVER";
constexpr const char* kCheckVariable = "SLUICE_HAND_OVER_CHECK";
constexpr int kFormat = 1;  // raised only when an older program could not go on with it
constexpr auto kCheckLimit = std::chrono::seconds(10);

std::unexpected<std::string> failure(const std::string& what) {
  return std::unexpected(what + ": " + std::strerror(errno));
}

std::expected<OwnedFd, std::string> memory_of(const char* name, std::string_view bytes) {
  OwnedFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return failure("memfd_create");
  while (!bytes.empty()) {
    const ssize_t size = ::write(fd.get(), bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failure("memfd");
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  return fd;
}

std::expected<std::string, std::string> bytes_of(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return failure("hand-over");
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t size = ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (size <= 0) return failure("hand-over");
    at += static_cast<std::size_t>(size);
  }
  return bytes;
}

// --- to JSON and back ----------------------------------------------------------------------------

json::array to_json(const std::vector<kernel::KeeperHandOver::Socket>& sockets) {
  json::array out;
  for (const auto& socket : sockets)
    out.push_back(json::object{{"identity", socket.identity},
                               {"worker", socket.worker},
                               {"by_tproxy", socket.by_tproxy},
                               {"fd", socket.fd}});
  return out;
}

json::array to_json(const std::vector<kernel::Ban>& bans) {
  json::array out;
  for (const auto& ban : bans)
    out.push_back(json::object{{"source", from_kernel(ban.source).to_string()},
                               {"seconds", ban.left.count()},
                               {"reason", ban.reason}});
  return out;
}

json::array to_json(const std::vector<GatewayLeft>& gateways) {
  json::array out;
  for (const auto& gateway : gateways)
    out.push_back(json::object{{"pid", gateway.pid},
                               {"fd", gateway.channel},
                               {"protocol", gateway.protocol},
                               {"workers", gateway.hello.workers},
                               {"own_mark", gateway.hello.own_mark},
                               {"retired", gateway.retired},
                               {"left_ms", gateway.left.count()}});
  return out;
}

// Reads with a default for what is missing or of another kind.
class Fields {
 public:
  using Received = std::optional<std::map<int, int>>;
  explicit Fields(const json::value& value, const Received& received = std::nullopt)
      : object_(value.is_object() ? value.as_object() : none()), received_(received) {}

  // A descriptor; -1: there is none.
  int descriptor(std::string_view key) const {
    const int theirs = number(key, -1);
    if (!received_) return theirs;
    const auto found = received_->find(theirs);
    return found == received_->end() ? -1 : found->second;
  }

  template <typename Int = int>
  Int number(std::string_view key, Int otherwise = 0) const {
    const json::value* value = object_.if_contains(key);
    boost::system::error_code error;
    const auto found = value != nullptr ? value->to_number<Int>(error) : otherwise;
    return error ? otherwise : found;
  }
  bool flag(std::string_view key) const {
    const json::value* value = object_.if_contains(key);
    return value != nullptr && value->is_bool() && value->as_bool();
  }
  std::string text(std::string_view key) const {
    const json::value* value = object_.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
  }
  std::vector<Fields> list(std::string_view key) const {
    std::vector<Fields> out;
    const json::value* value = object_.if_contains(key);
    if (value == nullptr || !value->is_array()) return out;
    for (const auto& item : value->as_array())
      out.emplace_back(item, received_);
    return out;
  }

 private:
  static const json::object& none() {
    static const json::object kNone;
    return kNone;
  }
  json::object object_;
  Received received_;
};

std::string bytes_of(const TicketKeysLeft& left) {
  std::string bytes;
  for (const gateway::tls::SecretPtr& key : left.keys)
    bytes.append(key->view());
  return bytes;
}

TicketKeysLeft ticket_keys_of(const Fields& fields) {
  TicketKeysLeft left;
  const OwnedFd fd(fields.descriptor("ticket_keys"));
  auto bytes = fd ? bytes_of(fd.get()) : std::string();
  if (!bytes) return left;
  for (std::string_view rest = *bytes; rest.size() >= gateway::tls::kTicketKeySize;
       rest.remove_prefix(gateway::tls::kTicketKeySize)) {
    left.keys.push_back(std::make_shared<const gateway::tls::Secret>(
        rest.substr(0, gateway::tls::kTicketKeySize)));
  }
  OPENSSL_cleanse(bytes->data(), bytes->size());
  left.age = std::chrono::seconds(fields.number<std::int64_t>("ticket_keys_age"));
  return left;
}

kernel::KeeperHandOver keeper_of(const Fields& fields) {
  kernel::KeeperHandOver out{.lock = fields.descriptor("lock"), .sockets = {}, .bans = {}};
  for (const auto& socket : fields.list("sockets"))
    out.sockets.push_back({.identity = socket.text("identity"),
                           .worker = socket.number<std::uint32_t>("worker"),
                           .by_tproxy = socket.flag("by_tproxy"),
                           .fd = socket.descriptor("fd")});
  for (const auto& ban : fields.list("bans")) {
    const auto source = policy::Prefix::parse(ban.text("source"));
    if (!source) continue;
    out.bans.push_back({.source = to_kernel(*source),
                        .left = std::chrono::seconds(ban.number<std::int64_t>("seconds", 1)),
                        .reason = ban.text("reason")});
  }
  return out;
}

std::vector<GatewayLeft> gateways_of(const Fields& fields) {
  std::vector<GatewayLeft> out;
  for (const auto& gateway : fields.list("gateways"))
    out.push_back({.pid = gateway.number<pid_t>("pid", -1),
                   .channel = gateway.descriptor("fd"),
                   .protocol = gateway.number<std::uint16_t>("protocol"),
                   .hello = {.workers = gateway.number<std::uint32_t>("workers", 1),
                             .own_mark = gateway.number<std::uint32_t>("own_mark")},
                   .retired = gateway.flag("retired"),
                   .left = std::chrono::milliseconds(gateway.number<std::int64_t>("left_ms"))});
  return out;
}

void set_close_on_exec(int fd, bool close) {
  ::fcntl(fd, F_SETFD, close ? FD_CLOEXEC : 0);
}

// --- programs ------------------------------------------------------------------------------------

std::vector<std::string> own_arguments() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> out;
  for (std::string word; std::getline(file, word, '\0');)
    out.push_back(word);
  return out;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (auto& word : words)
    out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> environment_with(std::initializer_list<std::string> added) {
  std::vector<std::string> out(added);
  for (char** at = environ; *at != nullptr; ++at)
    out.emplace_back(*at);
  return out;
}

std::string assignment(const char* variable, int value) {
  return std::string(variable) + '=' + std::to_string(value);
}

// What a child writes, until it ends or the time is over; then it is ended.
std::string read_until_end(int fd, pid_t child) {
  const auto end = std::chrono::steady_clock::now() + kCheckLimit;
  std::string text;
  char buffer[4096];
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<long>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    const ssize_t size = ::read(fd, buffer, sizeof buffer);
    if (size <= 0) break;
    text.append(buffer, static_cast<std::size_t>(size));
    if (text.size() > sizeof buffer) text.resize(sizeof buffer);
  }
  ::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return text;
}

sigset_t handed_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD})
    sigaddset(&set, signal);
  return set;
}

}  // namespace

std::vector<int> descriptors_of(const HandOver& hand_over) {
  std::vector<int> out{hand_over.keeper.lock, hand_over.admin, hand_over.program};
  for (const auto& socket : hand_over.keeper.sockets)
    out.push_back(socket.fd);
  for (const auto& gateway : hand_over.gateways)
    out.push_back(gateway.channel);
  std::erase_if(out, [](int fd) { return fd < 0; });
  return out;
}

int inherited_hand_over() {
  const char* value = std::getenv(kVariable);
  if (value == nullptr) return -1;
  const int fd = std::atoi(value);
  ::unsetenv(kVariable);
  if (fd < 3 || ::fcntl(fd, F_GETFD) < 0) return -1;
  set_close_on_exec(fd, true);
  return fd;
}

bool hand_over_is_a_check() {
  return std::getenv(kCheckVariable) != nullptr;
}

std::expected<HandOverMemory, std::string> write_hand_over(const HandOver& hand_over) {
  auto policy = memory_of("sluice-policy", gateway::bundle_policy(hand_over.files));
  if (!policy) return std::unexpected(policy.error());
  std::string keys = bytes_of(hand_over.ticket_keys);
  auto ticket_keys = memory_of("sluice-ticket-keys", keys);
  OPENSSL_cleanse(keys.data(), keys.size());
  if (!ticket_keys) return std::unexpected(ticket_keys.error());
  const json::object object{{"format", kFormat},
                            {"attempt", hand_over.attempt},
                            {"from_version", hand_over.from_version},
                            {"problem", hand_over.problem},
                            {"workers", hand_over.workers},
                            {"upgrades", hand_over.upgrades},
                            {"policy", policy->get()},
                            {"ticket_keys", ticket_keys->get()},
                            {"ticket_keys_age", hand_over.ticket_keys.age.count()},
                            {"lock", hand_over.keeper.lock},
                            {"admin", hand_over.admin},
                            {"program", hand_over.program},
                            {"sockets", to_json(hand_over.keeper.sockets)},
                            {"bans", to_json(hand_over.keeper.bans)},
                            {"gateways", to_json(hand_over.gateways)}};
  auto text = memory_of("sluice-hand-over", json::serialize(object));
  if (!text) return std::unexpected(text.error());
  return HandOverMemory{.text = std::move(*text),
                        .policy = std::move(*policy),
                        .ticket_keys = std::move(*ticket_keys)};
}

std::expected<HandOver, std::string> read_hand_over(
    int fd, const std::optional<std::map<int, int>>& received) {
  const auto text = bytes_of(fd);
  if (!text) return std::unexpected(text.error());
  boost::system::error_code error;
  const json::value value = json::parse(*text, error);
  if (error) return std::unexpected("hand-over: " + error.message());
  const Fields fields(value, received);
  if (fields.number("format") != kFormat)
    return std::unexpected("hand-over: of format " + std::to_string(fields.number("format")) +
                           ", this program reads " + std::to_string(kFormat));
  const OwnedFd policy(fields.descriptor("policy"));
  const auto bundle = bytes_of(policy.get());
  if (!bundle) return std::unexpected(bundle.error());
  auto files = gateway::unbundle_policy(*bundle);
  if (!files) return std::unexpected("hand-over: no policy in it");
  HandOver out{.attempt = fields.text("attempt"),
               .from_version = fields.text("from_version"),
               .problem = fields.text("problem"),
               .workers = fields.number<std::uint32_t>("workers", 1),
               .upgrades = fields.number<std::uint32_t>("upgrades"),
               .files = std::move(*files),
               .keeper = keeper_of(fields),
               .gateways = gateways_of(fields),
               .ticket_keys = ticket_keys_of(fields),
               .admin = fields.descriptor("admin"),
               .program = fields.descriptor("program")};
  for (const int inherited : descriptors_of(out))
    set_close_on_exec(inherited, true);
  return out;
}

std::expected<void, std::string> check_program(const std::string& program,
                                               const HandOverMemory& memory) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failure("pipe");
  const OwnedFd reader(ends[0]);
  OwnedFd writer(ends[1]);
  posix_spawn_file_actions_t actions{};
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
  for (const int fd : memory.descriptors())
    posix_spawn_file_actions_adddup2(&actions, fd, fd);  // clears close-on-exec
  auto words = own_arguments();
  auto environment =
      environment_with(
      {assignment(kVariable, memory.text.get()), assignment(kCheckVariable, 1)});
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, program.c_str(), &actions, nullptr,
                                  pointers_to(words).data(), pointers_to(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return std::unexpected(program + ": " + std::strerror(error));
  writer.reset();
  std::string said = read_until_end(reader.get(), pid);
  while (!said.empty() && (said.back() == '\n' || said.back() == '\0'))
    said.pop_back();
  if (said.ends_with(kHandOverAccepted)) return {};
  return std::unexpected(program + " cannot take over" +
                         (said.empty() ? " (it does not know how)" : ": " + said));
}

std::string become(const std::string& program, const HandOver& hand_over,
                   const HandOverMemory& memory) {
  auto inherited = descriptors_of(hand_over);
  const std::vector<int> memories = memory.descriptors();
  inherited.insert(inherited.end(), memories.begin(), memories.end());
  for (const int fd : inherited)
    set_close_on_exec(fd, false);
  auto words = own_arguments();
  auto environment = environment_with({assignment(kVariable, memory.text.get())});
  block_signals();
  ::execve(program.c_str(), pointers_to(words).data(), pointers_to(environment).data());
  const std::string error = program + ": " + std::strerror(errno);
  unblock_signals();
  for (const int fd : inherited)
    set_close_on_exec(fd, true);
  return error;
}

void block_signals() {
  const sigset_t set = handed_signals();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

void unblock_signals() {
  const sigset_t set = handed_signals();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace sluice::control
