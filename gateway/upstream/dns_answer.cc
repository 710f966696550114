#include "gateway/upstream/dns_answer.h"

#include <algorithm>

namespace sluice::gateway {
namespace {

constexpr std::uint16_t kCname = 5;
constexpr std::uint16_t kInternet = 1;

char lower(std::uint8_t c) {
  return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

// Reads a message from its front; after a step that fails, every further one fails.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> message) : message_(message) {}

  bool good() const { return good_; }
  std::size_t at() const { return at_; }
  void move_to(std::size_t place) {
    good_ = good_ && place <= message_.size();
    if (good_) at_ = place;
  }

  std::uint16_t word() {
    if (!has(2)) return 0;
    const auto value = static_cast<std::uint16_t>(message_[at_] << 8 | message_[at_ + 1]);
    at_ += 2;
    return value;
  }
  std::uint32_t double_word() {
    const std::uint32_t high = word();
    return high << 16 | word();
  }
  std::span<const std::uint8_t> bytes(std::size_t count) {
    if (!has(count)) return {};
    const auto taken = message_.subspan(at_, count);
    at_ += count;
    return taken;
  }

  // A name, through its compression pointers, which only ever lead backwards.
  std::string name() {
    constexpr std::size_t kLongest = 255;
    std::string text;
    std::size_t place = at_;
    std::size_t limit = at_;  // a pointer must lead to before this
    bool jumped = false;
    while (good_) {
      if (place >= message_.size()) return fail();
      const std::uint8_t length = message_[place];
      if (length == 0) {
        if (!jumped) at_ = place + 1;
        return text;
      }
      if ((length & 0xc0) == 0xc0) {
        if (place + 1 >= message_.size()) return fail();
        const std::size_t target = (length & 0x3fu) << 8 | message_[place + 1];
        if (!jumped) at_ = place + 2;
        jumped = true;
        if (target >= limit) return fail();
        limit = target;
        place = target;
        continue;
      }
      if ((length & 0xc0) != 0 || place + 1 + length > message_.size()) return fail();
      if (text.size() + length + 1 > kLongest) return fail();
      if (!text.empty()) text.push_back('.');
      for (std::size_t i = 0; i < length; ++i)
        text.push_back(lower(message_[place + 1 + i]));
      place += 1u + length;
    }
    return {};
  }

 private:
  bool has(std::size_t count) {
    good_ = good_ && message_.size() - at_ >= count;
    return good_;
  }
  std::string fail() {
    good_ = false;
    return {};
  }

  std::span<const std::uint8_t> message_;
  std::size_t at_ = 0;
  bool good_ = true;
};

void add_address(std::span<const std::uint8_t> data, DnsType type, DnsAnswer& answer) {
  if (type == DnsType::a && data.size() == 4) {
    answer.addresses.push_back(policy::IpAddress::v4(std::uint32_t{data[0]} << 24 |
                                                     std::uint32_t{data[1]} << 16 |
                                                     std::uint32_t{data[2]} << 8 | data[3]));
  } else if (type == DnsType::aaaa && data.size() == 16) {
    policy::IpAddress::Bytes bytes{};
    std::copy(data.begin(), data.end(), bytes.begin());
    answer.addresses.emplace_back(bytes);
  }
}

// A target of "." says that there is no such service here.
void add_service(Reader& reader, DnsAnswer& answer) {
  SrvRecord record;
  record.priority = reader.word();
  record.weight = reader.word();
  record.port = reader.word();
  record.target = reader.name();
  if (reader.good() && !record.target.empty() && record.port != 0)
    answer.services.push_back(std::move(record));
}

template <typename T>
void sort_once(std::vector<T>& records) {
  std::sort(records.begin(), records.end());
  records.erase(std::unique(records.begin(), records.end()), records.end());
  if (records.size() > kMaxDnsRecords) records.resize(kMaxDnsRecords);
}

void read_record(Reader& reader, DnsType type, DnsAnswer& answer,
                 std::optional<std::uint32_t>& ttl) {
  reader.name();
  const std::uint16_t kind = reader.word();
  const std::uint16_t network = reader.word();
  const std::uint32_t lives = reader.double_word();
  const std::uint16_t length = reader.word();
  const std::size_t data = reader.at();
  const auto bytes = reader.bytes(length);
  if (!reader.good() || network != kInternet) return;
  const bool wanted = kind == static_cast<std::uint16_t>(type);
  if (!wanted && kind != kCname) return;
  // RFC 2181 section 8: with the highest bit set, it is 0.
  const std::uint32_t seconds = lives > 0x7fffffff ? 0 : lives;
  ttl = std::min(ttl.value_or(seconds), seconds);
  if (!wanted) return;
  if (type != DnsType::srv) return add_address(bytes, type, answer);
  const std::size_t end = reader.at();
  reader.move_to(data);
  add_service(reader, answer);
  reader.move_to(end);
}

}  // namespace

std::optional<DnsAnswer> parse_dns_answer(std::span<const std::uint8_t> message, DnsType type) {
  Reader reader(message);
  reader.word();  // id: the resolver has matched it
  reader.word();  // flags: the same
  const std::uint16_t questions = reader.word();
  const std::uint16_t answers = reader.word();
  reader.word();
  reader.word();
  for (std::uint16_t i = 0; i < questions && reader.good(); ++i) {
    reader.name();
    reader.double_word();  // type and class
  }
  DnsAnswer answer;
  std::optional<std::uint32_t> ttl;
  for (std::uint16_t i = 0; i < answers && reader.good(); ++i)
    read_record(reader, type, answer, ttl);
  if (!reader.good()) return std::nullopt;
  sort_once(answer.addresses);
  sort_once(answer.services);
  answer.ttl = std::chrono::seconds(ttl.value_or(0));
  return answer;
}

}  // namespace sluice::gateway
