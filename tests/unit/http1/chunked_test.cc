#include "gateway/http1/chunked.h"

#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace sluice::gateway::http1 {
namespace {

struct Outcome {
  std::string forwarded;
  std::string end;  // "done", "more", or the error's name
  std::size_t consumed = 0;
  std::uint64_t payload = 0;
  int pieces = 0;
  bool operator==(const Outcome& other) const {
    return forwarded == other.forwarded && end == other.end && consumed == other.consumed &&
           payload == other.payload;
  }
};

std::ostream& operator<<(std::ostream& out, const Outcome& run) {
  return out << run.end << ", consumed " << run.consumed << ", payload " << run.payload << ": "
             << run.forwarded;
}

// Feeds pieces that end at the given offsets, keeping what is not consumed, as a relay does.
Outcome decode(std::string_view bytes, bool verbatim, const std::vector<std::size_t>& ends) {
  ChunkedDecoder decoder;
  Outcome run;
  run.end = "more";
  for (std::size_t end : ends) {
    while (run.end == "more" && run.consumed < end) {
      const std::string given(bytes.substr(run.consumed, end - run.consumed));
      const ChunkedStep step = verbatim ? decoder.next_verbatim(given) : decoder.next_data(given);
      run.forwarded += step.forward;
      run.pieces += step.forward.empty() ? 0 : 1;
      run.consumed += step.consumed;
      if (step.status == ChunkedStatus::done) run.end = "done";
      if (step.status == ChunkedStatus::failed) run.end = std::string(name(decoder.error()));
      if (step.consumed == 0) break;
    }
  }
  run.payload = decoder.payload_bytes();
  return run;
}

// One shot, cut in two at every offset, and byte by byte: always the same.
Outcome decode(std::string_view bytes, bool verbatim) {
  const Outcome once = decode(bytes, verbatim, {bytes.size()});
  std::vector<std::size_t> single;
  for (std::size_t cut = 1; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(decode(bytes, verbatim, {cut, bytes.size()}), once) << "cut at " << cut;
    single.push_back(cut);
  }
  EXPECT_EQ(decode(bytes, verbatim, single), once) << "byte by byte";
  return once;
}

TEST(Chunked, IsForwardedAsItComesInOnePiece) {
  const std::string message =
      "5\r\nhello\r\n00a\r\n0123456789\r\n1F\r\n" + std::string(31, 'x') + "\r\n0\r\n\r\n";
  const Outcome verbatim = decode(message + "GET / HTTP/1.1", true);
  EXPECT_EQ(verbatim.forwarded, message);
  EXPECT_EQ(verbatim.end, "done");
  EXPECT_EQ(verbatim.consumed, message.size());
  EXPECT_EQ(verbatim.pieces, 1);
  EXPECT_EQ(verbatim.payload, 46u);
  const Outcome data = decode(message + "next", false);
  EXPECT_EQ(data.forwarded, "hello0123456789" + std::string(31, 'x'));
  EXPECT_EQ(data.end, "done");
  EXPECT_EQ(data.consumed, message.size());
}

TEST(Chunked, ExtensionsAndPaddingAreNotForwarded) {
  const std::pair<const char*, const char*> cases[] = {
      {"5;a=b\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"5 \t;a=\"x;y\"\r\nhello\r\n0;last\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"5  \r\nhello\r\n0 \r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
      {"1;\r\na\r\n0\r\n\r\n", "1\r\na\r\n0\r\n\r\n"},
  };
  for (const auto& [in, out] : cases) {
    const Outcome run = decode(in, true);
    EXPECT_EQ(run.forwarded, out);
    EXPECT_EQ(run.end, "done");
  }
}

TEST(Chunked, Refused) {
  const std::pair<std::string, std::string> cases[] = {
      {"\r\n", "bad_chunk_size"},
      {"+5\r\nhello\r\n", "bad_chunk_size"},
      {"-5\r\n", "bad_chunk_size"},
      {"0x5\r\nhello", "bad_chunk_size"},
      {" 5\r\nhello", "bad_chunk_size"},
      {"5 6\r\nhello", "bad_chunk_size"},
      {"5\t5;x\r\nhello", "bad_chunk_size"},
      {"5,\r\nhello", "bad_chunk_size"},
      {"g\r\n", "bad_chunk_size"},
      {"5_0\r\n", "bad_chunk_size"},
      {";a\r\n", "bad_chunk_size"},
      {"00000000000000005\r\nhello", "bad_chunk_size"},
      {"1000000000000001\r\n", "chunk_too_large"},
      {"ffffffffffffffff\r\n", "chunk_too_large"},
      {"fffffffffffffffff\r\n", "chunk_too_large"},
      {"5\nhello\r\n", "bad_chunk_size"},
      {"5\rhello\r\n", "bare_cr"},
      {"5;a\nhello\r\n", "bare_lf"},
      {"5;a\rb\r\nhello\r\n", "bare_cr"},
      {"5;a\x01\r\nhello\r\n", "control_byte"},
      {"5\r\nhello!\r\n", "bad_chunk_end"},
      {"5\r\nhello\n", "bad_chunk_end"},
      {"5\r\nhello\r!", "bad_chunk_end"},
      {"5\r\nhello0\r\n\r\n", "bad_chunk_end"},
      {"0\r\n\n", "bare_lf"},
      {"0\r\nA: b\n\r\n", "bare_lf"},
      {"0\r\nA\r\n\r\n", "bad_trailer"},
      {"0\r\nA : b\r\n\r\n", "bad_trailer"},
      {"0\r\n: b\r\n\r\n", "bad_trailer"},
      {"0\r\nA: b\r\n c\r\n\r\n", "bad_trailer"},
      {"0\r\nA: b\rc\r\n\r\n", "bad_trailer"},
      {"0\r\nA: \x01\r\n\r\n", "bad_trailer"},
      {"0\r\nGET / HTTP/1.1\r\n\r\n", "bad_trailer"},
      {"5;" + std::string(5000, 'a') + "\r\n", "chunk_line_too_long"},
      {"0\r\nA: " + std::string(5000, 'a') + "\r\n", "trailers_too_large"},
  };
  for (const auto& [in, error] : cases) {
    EXPECT_EQ(decode(in, true).end, error) << in.substr(0, 60);
    EXPECT_EQ(decode(in, false).end, error) << in.substr(0, 60);
  }
}

TEST(Chunked, LargestSize) {
  ChunkedDecoder decoder;
  const std::string_view in = "1000000000000000\r\nabc";
  const ChunkedStep step = decoder.next_verbatim(in);
  EXPECT_EQ(step.status, ChunkedStatus::more);
  EXPECT_EQ(step.consumed, in.size());
  EXPECT_EQ(decoder.data_remaining(), ChunkedDecoder::kMaxChunk - 3);
}

TEST(Chunked, DataMayBeMovedByOtherMeans) {
  ChunkedDecoder decoder;
  ASSERT_EQ(decoder.next_verbatim("64\r\nabc").status, ChunkedStatus::more);
  ASSERT_EQ(decoder.data_remaining(), 97u);
  decoder.skip_data(96);
  ASSERT_EQ(decoder.data_remaining(), 1u);
  decoder.skip_data(1);
  EXPECT_EQ(decoder.data_remaining(), 0u);
  const ChunkedStep step = decoder.next_verbatim("\r\n0\r\n\r\n");
  EXPECT_EQ(step.status, ChunkedStatus::done);
  EXPECT_EQ(decoder.payload_bytes(), 100u);
}

TEST(Chunked, ExtensionsMayNotOutweighData) {
  const std::string extension = "1;" + std::string(3000, 'a') + "\r\nx\r\n";
  std::string flood;
  for (int i = 0; i < 10; ++i)
    flood += extension;
  EXPECT_EQ(decode(flood, true, {flood.size()}).end, "chunk_extensions_excessive");
  std::string fair;
  for (int i = 0; i < 100; ++i)
    fair += "400;signature=" + std::string(64, 'f') + "\r\n" + std::string(1024, 'd') + "\r\n";
  fair += "0\r\n\r\n";
  EXPECT_EQ(decode(fair, true, {fair.size()}).end, "done");
}

TEST(Chunked, Trailers) {
  const Outcome run = decode(
      "0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nHOST: a\r\nETag: \"x\"\r\nX-Forwarded-User: "
      "root\r\n"
      "transfer-encoding: chunked\r\nAuthorization: b\r\nSet-Cookie: c\r\nX-Sum: 1\r\nConnection: "
      "x\r\n\r\nrest",
      true);
  EXPECT_EQ(run.end, "done");
  EXPECT_EQ(run.forwarded, "0\r\nGrpc-Status: 0\r\nETag: \"x\"\r\nX-Sum: 1\r\n\r\n");
  EXPECT_EQ(decode("1\r\na\r\n0\r\nX: y\r\n\r\n", false).forwarded, "a");

  std::string many = "0\r\n";
  for (int i = 0; i < 10; ++i)
    many += "A: " + std::string(1000, 'a') + "\r\n";
  EXPECT_EQ(decode(many, true, {many.size()}).end, "trailers_too_large");
}

TEST(Chunked, NothingBehindTheEndIsTouched) {
  ChunkedDecoder decoder;
  ASSERT_EQ(decoder.next_verbatim("0\r\n\r\n").status, ChunkedStatus::done);
  const ChunkedStep step = decoder.next_verbatim("5\r\n");
  EXPECT_EQ(step.status, ChunkedStatus::done);
  EXPECT_EQ(step.consumed, 0u);
  decoder.reset();
  EXPECT_FALSE(decoder.done());
}

TEST(Chunked, FailureStays) {
  ChunkedDecoder decoder;
  ASSERT_EQ(decoder.next_verbatim("x").status, ChunkedStatus::failed);
  EXPECT_EQ(decoder.next_verbatim("0\r\n\r\n").status, ChunkedStatus::failed);
}

TEST(Chunked, Prefix) {
  char out[18];
  EXPECT_EQ(chunk_prefix(1, out), "1\r\n");
  EXPECT_EQ(chunk_prefix(0xabcdef, out), "abcdef\r\n");
  EXPECT_EQ(chunk_prefix(~std::uint64_t{0}, out), "ffffffffffffffff\r\n");
}

}  // namespace
}  // namespace sluice::gateway::http1
