#include "policy/carried_state.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

namespace sluice::policy {
namespace {

constexpr std::string_view kMagic = "sluice-state";
constexpr std::uint32_t kVersion = 3;  // raised by whatever changes a byte of it

// The same machine reads it: numbers are as they lie in memory.
class StateWriter {
 public:
  template <typename T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view text) {
    number(static_cast<std::uint32_t>(text.size()));
    out_.append(text);
  }
  void key(const HashKey& key) {
    number(key.k0);
    number(key.k1);
  }
  void address(const IpAddress& address) {
    for (const std::uint8_t byte : address.bytes())
      number(byte);
  }
  void cells(const std::vector<CarriedCell>& cells) {
    number(static_cast<std::uint32_t>(cells.size()));
    out_.append(reinterpret_cast<const char*>(cells.data()), cells.size() * sizeof(CarriedCell));
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

class Reader {
 public:
  explicit Reader(std::string_view left) : left_(left) {}

  bool done() const { return ok_ && left_.empty(); }
  bool ok() const { return ok_; }

  template <typename T>
  T number() {
    T value{};
    if (left_.size() < sizeof value) return fail(), value;
    std::memcpy(&value, left_.data(), sizeof value);
    left_.remove_prefix(sizeof value);
    return value;
  }
  std::string text() {
    const auto size = number<std::uint32_t>();
    if (size > left_.size()) return fail(), std::string();
    std::string out(left_.substr(0, size));
    left_.remove_prefix(size);
    return out;
  }
  HashKey key() {
    HashKey key;
    key.k0 = number<std::uint64_t>();
    key.k1 = number<std::uint64_t>();
    return key;
  }
  IpAddress address() {
    IpAddress::Bytes bytes{};
    for (auto& byte : bytes)
      byte = number<std::uint8_t>();
    return IpAddress(bytes);
  }
  // How many items of at least `each` bytes follow: a lie is noticed before anything is allocated.
  std::size_t count(std::size_t each) {
    const auto count = number<std::uint32_t>();
    if (count > left_.size() / each) return fail(), 0;
    return count;
  }
  std::vector<CarriedCell> cells() {
    std::vector<CarriedCell> out(count(sizeof(CarriedCell)));
    if (!out.empty()) std::memcpy(out.data(), left_.data(), out.size() * sizeof(CarriedCell));
    left_.remove_prefix(out.size() * sizeof(CarriedCell));
    return out;
  }

 private:
  void fail() {
    ok_ = false;
    left_ = {};
  }

  std::string_view left_;
  bool ok_ = true;
};

void put(StateWriter& out, const BanRecord& record) {
  for (const std::uint64_t word :
       {record.key, record.window_start, record.last_strike, record.banned_until})
    out.number(word);
  out.number(record.bans);
  out.number(record.slot);
  for (const std::uint32_t strikes : record.strikes)
    out.number(strikes);
}

constexpr std::size_t kBanBytes = 4 * 8 + 2 * 4 + BanRecord::kSlots * 4;
constexpr std::size_t kDivertedBytes = 16 + 1 + 8 + 8 + 4;
constexpr std::size_t kNameBytes = 4 + 4 + 4;
constexpr std::size_t kAddressBytes = 16 + 2 + 4 + 4 + 4;
constexpr std::size_t kKeysBytes = 4 + 4;
constexpr std::size_t kRateBytes = 4 + 8 + 4 + 4;

// From the clock of then to that of now; what passed before this boot has passed.
class Shift {
 public:
  Shift(const Clocks& then, const Clocks& now) {
    if (then.boot == now.boot) return;
    by_ = (static_cast<std::int64_t>(now.monotonic_ns) -
           static_cast<std::int64_t>(then.monotonic_ns)) -
          (now.wall_ns - then.wall_ns);
  }
  void operator()(std::uint64_t& time) const {
    if (time == 0) return;
    const std::int64_t moved = static_cast<std::int64_t>(time) + by_;
    time = moved < 0 ? 0 : static_cast<std::uint64_t>(moved);
  }

 private:
  std::int64_t by_ = 0;
};

BanRecord read_ban(Reader& in, const Shift& shift) {
  BanRecord record;
  for (std::uint64_t* word :
       {&record.key, &record.window_start, &record.last_strike, &record.banned_until})
    *word = in.number<std::uint64_t>();
  for (std::uint64_t* time : {&record.window_start, &record.last_strike, &record.banned_until})
    shift(*time);
  record.bans = in.number<std::uint32_t>();
  record.slot = in.number<std::uint32_t>();
  for (std::uint32_t& strikes : record.strikes)
    strikes = in.number<std::uint32_t>();
  return record;
}

DivertedSource read_diverted(Reader& in, const Shift& shift) {
  DivertedSource out;
  out.source.address = in.address();
  const auto bits = static_cast<std::uint8_t>(out.source.address.bits());
  out.source.length = std::min(in.number<std::uint8_t>(), bits);
  out.upstream = in.number<std::uint64_t>();
  out.until_ns = in.number<std::uint64_t>();
  shift(out.until_ns);
  out.reason = in.text();
  return out;
}

void put(StateWriter& out, const CarriedName& name) {
  out.text(name.upstream);
  out.text(name.endpoint);
  out.number(static_cast<std::uint32_t>(name.addresses.size()));
  for (const CarriedAddress& one : name.addresses) {
    out.address(one.address.address);
    out.number(one.address.port);
    out.number(one.weight);
    out.number(one.priority);
    out.text(one.server_name);
  }
}

CarriedName read_name(Reader& in) {
  CarriedName out;
  out.upstream = in.text();
  out.endpoint = in.text();
  for (std::size_t left = in.count(kAddressBytes); left > 0 && in.ok(); --left) {
    CarriedAddress& one = out.addresses.emplace_back();
    one.address.address = in.address();
    one.address.port = in.number<std::uint16_t>();
    one.weight = in.number<std::uint32_t>();
    one.priority = in.number<std::uint32_t>();
    one.server_name = in.text();
  }
  return out;
}

}  // namespace

std::string serialize(const CarriedState& state, const Clocks& now) {
  StateWriter out;
  out.text(kMagic);
  out.number(kVersion);
  out.text(now.boot);
  out.number(now.monotonic_ns);
  out.number(now.wall_ns);
  out.key(state.limit_key);
  out.number(static_cast<std::uint32_t>(state.rates.size()));
  for (const CarriedRate& rate : state.rates) {
    out.text(rate.limit);
    out.number(rate.identity);
    out.cells(rate.keys);
    out.cells(rate.overflow);
  }
  out.key(state.ban_key);
  out.number(static_cast<std::uint32_t>(state.bans.size()));
  for (const BanRecord& record : state.bans)
    put(out, record);
  out.number(static_cast<std::uint32_t>(state.diverted.size()));
  for (const DivertedSource& one : state.diverted) {
    out.address(one.source.address);
    out.number(one.source.length);
    out.number(one.upstream);
    out.number(one.until_ns);
    out.text(one.reason);
  }
  out.number(static_cast<std::uint32_t>(state.names.size()));
  for (const CarriedName& name : state.names)
    put(out, name);
  out.number(static_cast<std::uint32_t>(state.keys.size()));
  for (const CarriedKeys& one : state.keys) {
    out.text(one.source);
    out.text(one.text);
  }
  return out.take();
}

std::expected<CarriedState, std::string> deserialize_state(std::string_view bytes,
                                                           const Clocks& now) {
  Reader in(bytes);
  if (in.text() != kMagic) return std::unexpected("not a gateway's state");
  if (const auto version = in.number<std::uint32_t>(); version != kVersion)
    return std::unexpected("of version " + std::to_string(version) + ", and this is " +
                           std::to_string(kVersion));
  Clocks then;
  then.boot = in.text();
  then.monotonic_ns = in.number<std::uint64_t>();
  then.wall_ns = in.number<std::int64_t>();
  const Shift shift(then, now);

  CarriedState state;
  state.limit_key = in.key();
  for (std::size_t left = in.count(kRateBytes); left > 0 && in.ok(); --left) {
    CarriedRate& rate = state.rates.emplace_back();
    rate.limit = in.text();
    rate.identity = in.number<std::uint64_t>();
    rate.keys = in.cells();
    rate.overflow = in.cells();
    for (auto* cells : {&rate.keys, &rate.overflow}) {
      for (CarriedCell& cell : *cells)
        shift(cell.tat);
    }
  }
  state.ban_key = in.key();
  for (std::size_t left = in.count(kBanBytes); left > 0 && in.ok(); --left)
    state.bans.push_back(read_ban(in, shift));
  for (std::size_t left = in.count(kDivertedBytes); left > 0 && in.ok(); --left)
    state.diverted.push_back(read_diverted(in, shift));
  for (std::size_t left = in.count(kNameBytes); left > 0 && in.ok(); --left)
    state.names.push_back(read_name(in));
  for (std::size_t left = in.count(kKeysBytes); left > 0 && in.ok(); --left) {
    CarriedKeys& one = state.keys.emplace_back();
    one.source = in.text();
    one.text = in.text();
  }
  if (!in.done()) return std::unexpected("damaged");
  return state;
}

}  // namespace sluice::policy
