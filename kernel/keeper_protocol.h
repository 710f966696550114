// The conversation between keeper and gateway: small, versioned messages over a SOCK_SEQPACKET
// pair, one message a packet, descriptors by SCM_RIGHTS. All numbers are little-endian, strings are
// a u32 length and bytes.
//
//   keeper ─► gateway   hello, policy (+ memfd), material (+ memfd), sockets (+ fds), commit,
//                       abandon, drain, drain_connections, request, kernel_samples, memory (+ memfd)
//   gateway ─► keeper   ready, prepared, committed, ban, reply, want_kernel_samples, drained
//
// The keeper trusts nothing that it decodes here: a gateway that was taken over can ask for bans
// and for nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernel/plan.h"

namespace sluice::kernel::protocol {

inline constexpr std::uint16_t kVersion = 4;
// Of the messages that every version understands and none may change: Drain and Drained. A keeper
// that was upgraded can let the gateway of the version before finish its connections.
inline constexpr std::uint16_t kFrozenVersion = 0;
inline constexpr std::size_t kMaxMessage = 48 * 1024;  // bytes of one packet
inline constexpr std::size_t kMaxDescriptors = 64;     // of one packet; the kernel allows 253
inline constexpr std::size_t kMaxText = 32 * 1024;     // of one piece of a longer text

// --- keeper to gateway ---------------------------------------------------------------------------

struct Hello {
  std::uint32_t workers = 1;   // 1 to 64
  std::uint32_t own_mark = 0;  // SO_MARK of upstream sockets; 0: none
  bool operator==(const Hello&) const = default;
};

// Carries one descriptor: a sealed memfd with the policy's files. Begins a prepare of `generation`.
struct Policy {
  std::uint64_t generation = 0;
  bool operator==(const Policy&) const = default;
};

// Carries one descriptor: a sealed memfd with the certificates, keys and authorities that the
// policy names, since a gateway may open no key. Between Policy and the last Sockets it belongs to
// that prepare; else it is newer files for the policy in force.
struct Material {
  std::uint64_t generation = 0;
  bool operator==(const Material&) const = default;
};

// Carries as many descriptors as entries, in the same order. `last` ends the batches of one
// prepare.
struct Sockets {
  struct Entry {
    std::string listener;
    WayIn way = WayIn::bind;
    std::uint32_t worker = 0;
    bool operator==(const Entry&) const = default;
  };
  bool last = true;
  std::vector<Entry> entries;
  bool operator==(const Sockets&) const = default;
};

struct Commit {
  std::uint64_t generation = 0;
  bool operator==(const Commit&) const = default;
};

struct Abandon {
  std::uint64_t generation = 0;
  bool operator==(const Abandon&) const = default;
};

struct Drain {  // frozen, its number in Message too
  std::uint32_t deadline_ms = 0;
  bool replaced = false;  // another gateway serves already: give up what only one can have
  bool operator==(const Drain&) const = default;
};

// Answered by Reply with the same id. Commands: "status".
struct Request {
  std::uint64_t id = 0;
  std::string command;
  bool operator==(const Request&) const = default;
};

struct KernelSample {
  std::string name;
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
  bool counter = true;
  std::string help;
  bool operator==(const KernelSample&) const = default;
};

// `first` starts a new set, `last` completes it.
struct KernelSamples {
  bool first = true;
  bool last = true;
  std::vector<KernelSample> samples;
  bool operator==(const KernelSamples&) const = default;
};

// What the gateway cannot know by itself, for its metrics: a policy that could not even be parsed
// never gets to it.
struct ReloadEnded {
  bool ok = false;
  bool operator==(const ReloadEnded&) const = default;
};

// The kernel's side serves this generation from now on.
struct InForce {
  std::uint64_t generation = 0;
  bool operator==(const InForce&) const = default;
};

// Carries one descriptor: shared memory for what a gateway remembers of its clients. With an id: it
// writes that there, with `limits` the rates too, and answers by Reply with the same id. Without:
// it is what the gateway before remembered; comes before the first Commit.
struct Memory {
  std::uint64_t id = 0;
  bool limits = false;
  bool operator==(const Memory&) const = default;
};

// Of caught connections that no rule catches any longer (`on_change: drain`), by SO_COOKIE.
struct DrainConnections {
  std::uint32_t deadline_ms = 0;
  std::vector<std::uint64_t> cookies;  // kMaxCookies at most
  bool operator==(const DrainConnections&) const = default;
};
inline constexpr std::size_t kMaxCookies = 4096;

// --- gateway to keeper ---------------------------------------------------------------------------

struct Ready {  // every listener serves; sent once, after the first Committed
  std::uint64_t generation = 0;
  bool operator==(const Ready&) const = default;
};

struct Prepared {
  std::uint64_t generation = 0;
  bool ok = false;
  std::string message;  // why not
  bool operator==(const Prepared&) const = default;
};

struct Committed {
  std::uint64_t generation = 0;
  bool operator==(const Committed&) const = default;
};

struct Ban {
  Prefix source;
  std::uint32_t seconds = 0;
  std::string reason;
  bool operator==(const Ban&) const = default;
};

// A long answer comes in pieces of at most kMaxText bytes.
struct Reply {
  std::uint64_t id = 0;
  bool last = true;
  std::string text;
  bool operator==(const Reply&) const = default;
};

// The gateway's heartbeat as well: a control thread that stopped stops asking.
struct WantKernelSamples {
  bool operator==(const WantKernelSamples&) const = default;
};

struct Drained {  // frozen, its number in Message too
  bool operator==(const Drained&) const = default;
};

using Message = std::variant<Hello, Policy, Sockets, Commit, Abandon, Drain, Request, KernelSamples,
                             Ready, Prepared, Committed, Ban, Reply, WantKernelSamples, Drained,
                             ReloadEnded, InForce, Material, Memory, DrainConnections>;

struct Error {
  std::string message;
};

// Fails when the message would be longer than kMaxMessage or holds more entries than
// kMaxDescriptors.
std::expected<std::string, Error> encode(const Message& message);

// Never reads beyond `bytes`, never allocates more than a small multiple of them; any input is
// fine. A decoded message encodes to the same bytes again.
std::expected<Message, Error> decode(std::span<const std::uint8_t> bytes);

// How many descriptors have to come with this message.
std::size_t descriptors_of(const Message& message);

// Splits a set of samples over as many messages as it takes. A sample too large for any message is
// left out.
std::vector<Message> in_batches(const std::vector<KernelSample>& samples);

// Splits a text over as many replies as it takes; at least one.
std::vector<Message> in_pieces(std::uint64_t id, std::string_view text);

// An open descriptor that closes itself.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

struct Received {
  Message message;
  // Close-on-exec. As many as descriptors_of(message); none when this process may open no more.
  std::vector<OwnedFd> descriptors;
  bool complete() const { return descriptors.size() == descriptors_of(message); }
};

enum class IoStatus { ok, would_block, closed };

// Both ends, close-on-exec and non-blocking.
std::expected<std::pair<OwnedFd, OwnedFd>, Error> make_channel();

// One packet out. `bytes` comes from encode(). `closed` when the peer is gone, whatever the reason.
IoStatus send_packet(int channel, std::string_view bytes, std::span<const int> descriptors);

// One packet in. `closed` when the peer is gone. An error is a peer that breaks the protocol: a
// message that cannot be decoded, cut short, or with another number of descriptors than it needs.
// Descriptors are closed then. Look at complete() of what is received.
struct ReceiveResult {
  IoStatus status = IoStatus::closed;
  std::optional<Received> received;  // with `ok`
};
std::expected<ReceiveResult, Error> receive_packet(int channel);

}  // namespace sluice::kernel::protocol
