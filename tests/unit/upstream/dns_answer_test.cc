#include "gateway/upstream/dns_answer.h"

#include <gmock/gmock.h>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

namespace sluice::gateway {
namespace {

using testing::ElementsAre;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint16_t kCname = 5;

// Writes a DNS message as a server would.
class Message {
 public:
  Message(std::string_view question, DnsType type, std::uint16_t answers) {
    for (const std::uint16_t word : {0x1234, 0x8180, 1, int{answers}, 0, 0})
      add(word);
    name(question);
    add(static_cast<std::uint16_t>(type)).add(1);
  }
  Message& record(std::uint16_t type, std::uint32_t ttl, const Bytes& data,
                  std::uint16_t owner = 12) {
    add(0xc000 | owner);  // a pointer to the question's name
    add(type)
        .add(1)
        .add(static_cast<std::uint16_t>(ttl >> 16))
        .add(static_cast<std::uint16_t>(ttl));
    add(static_cast<std::uint16_t>(data.size()));
    bytes.insert(bytes.end(), data.begin(), data.end());
    return *this;
  }
  Message& add(std::uint16_t word) {
    bytes.push_back(static_cast<std::uint8_t>(word >> 8));
    bytes.push_back(static_cast<std::uint8_t>(word));
    return *this;
  }
  void name(std::string_view text) {
    const Bytes encoded = encode(text);
    bytes.insert(bytes.end(), encoded.begin(), encoded.end());
  }
  static Bytes encode(std::string_view text) {
    Bytes out;
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('.'), text.size());
      out.push_back(static_cast<std::uint8_t>(end));
      out.insert(out.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    out.push_back(0);
    return out;
  }
  static Bytes srv(std::uint16_t priority, std::uint16_t weight, std::uint16_t port,
                   std::string_view target) {
    Bytes out;
    for (const std::uint16_t word : {priority, weight, port}) {
      out.push_back(static_cast<std::uint8_t>(word >> 8));
      out.push_back(static_cast<std::uint8_t>(word));
    }
    const Bytes encoded = encode(target);
    out.insert(out.end(), encoded.begin(), encoded.end());
    return out;
  }

  Bytes bytes;
};

std::vector<std::string> texts(const DnsAnswer& answer) {
  std::vector<std::string> all;
  for (const auto& address : answer.addresses)
    all.push_back(address.to_string());
  return all;
}

TEST(DnsAnswer, AddressesSortedOnceWithTheShortestTtl) {
  Message message("api.internal", DnsType::a, 4);
  message.record(1, 60, {10, 0, 0, 2}).record(1, 30, {10, 0, 0, 1}).record(1, 60, {10, 0, 0, 2});
  message.record(28, 1, Bytes(16, 1));  // of another type: left out, with its TTL
  const auto answer = parse_dns_answer(message.bytes, DnsType::a);
  ASSERT_TRUE(answer);
  EXPECT_THAT(texts(*answer), ElementsAre("10.0.0.1", "10.0.0.2"));
  EXPECT_EQ(answer->ttl.count(), 30);
}

TEST(DnsAnswer, AnAliasCountsForTheTtl) {
  Message message("api.internal", DnsType::aaaa, 2);
  message.record(kCname, 5, Message::encode("real.internal"));
  message.record(28, 300, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7});
  const auto answer = parse_dns_answer(message.bytes, DnsType::aaaa);
  ASSERT_TRUE(answer);
  EXPECT_THAT(texts(*answer), ElementsAre("2001:db8::7"));
  EXPECT_EQ(answer->ttl.count(), 5);
}

TEST(DnsAnswer, ServicesWithTheirTtlByPriority) {
  Message message("_http._tcp.api", DnsType::srv, 3);
  message.record(33, 20, Message::srv(10, 5, 8080, "B.Internal"));
  message.record(33, 20, Message::srv(1, 7, 8081, "a.internal"));
  message.record(33, 20, Message::srv(0, 0, 0, ""));  // "no such service here"
  const auto answer = parse_dns_answer(message.bytes, DnsType::srv);
  ASSERT_TRUE(answer);
  EXPECT_THAT(answer->services, ElementsAre(SrvRecord{1, 7, 8081, "a.internal"},
                                            SrvRecord{10, 5, 8080, "b.internal"}));
  EXPECT_EQ(answer->ttl.count(), 20);
}

TEST(DnsAnswer, ANegativeTtlIsZero) {
  Message message("a.b", DnsType::a, 1);
  message.record(1, 0x80000001, {10, 0, 0, 1});
  EXPECT_EQ(parse_dns_answer(message.bytes, DnsType::a)->ttl.count(), 0);
}

TEST(DnsAnswer, NoAnswersAreNothing) {
  EXPECT_TRUE(parse_dns_answer(Message("a.b", DnsType::a, 0).bytes, DnsType::a)->empty());
}

TEST(DnsAnswer, NamesThatNeverEndAreRefused) {
  Message itself("a.b", DnsType::a, 1);
  itself.record(1, 9, {10, 0, 0, 1}, static_cast<std::uint16_t>(itself.bytes.size()));
  EXPECT_FALSE(parse_dns_answer(itself.bytes, DnsType::a));
  Message ahead("a.b", DnsType::a, 1);
  ahead.record(1, 9, {10, 0, 0, 1}, static_cast<std::uint16_t>(ahead.bytes.size() + 4));
  EXPECT_FALSE(parse_dns_answer(ahead.bytes, DnsType::a));
}

TEST(DnsAnswer, EveryShorterMessageIsRefused) {
  Message message("_http._tcp.api", DnsType::srv, 2);
  message.record(33, 20, Message::srv(1, 7, 8081, "a.internal"));
  message.record(33, 20, Message::srv(1, 7, 8082, "a.internal"));
  for (std::size_t size = 0; size < message.bytes.size(); ++size)
    EXPECT_FALSE(parse_dns_answer(std::span(message.bytes).first(size), DnsType::srv)) << size;
}

TEST(DnsAnswer, RandomBytesDoNoHarm) {
  std::mt19937 random(1);
  Message message("_http._tcp.api", DnsType::srv, 2);
  message.record(33, 20, Message::srv(1, 7, 8081, "a.internal"));
  message.record(1, 20, {10, 0, 0, 1});
  for (int i = 0; i < 20'000; ++i) {
    Bytes broken = message.bytes;
    for (int n = 0; n < 3; ++n)
      broken[random() % broken.size()] = static_cast<std::uint8_t>(random());
    parse_dns_answer(broken, i % 2 == 0 ? DnsType::srv : DnsType::a);
  }
}

}  // namespace
}  // namespace sluice::gateway
