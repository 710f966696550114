#include "gateway/tls/client_hello.h"

#include <gtest/gtest.h>
#include <vector>

namespace sluice::gateway::tls {
namespace {

using State = ClientHelloReader::State;

std::string vector(std::size_t length_size, const std::string& value) {
  std::string out;
  for (std::size_t i = length_size; i > 0; --i)
    out += static_cast<char>(value.size() >> (8 * (i - 1)));
  return out + value;
}

std::string extension(unsigned type, const std::string& data) {
  return std::string{static_cast<char>(type >> 8), static_cast<char>(type)} + vector(2, data);
}

std::string server_name(const std::string& name) {
  return extension(0, vector(2, std::string(1, '\0') + vector(2, name)));
}

// A handshake message with these extensions.
std::string message(const std::string& extensions) {
  const std::string body = "\x03\x03" + std::string(32, 'r') + vector(1, "session") +
                           vector(2, std::string("\x13\x01", 2)) + vector(1, std::string(1, '\0')) +
                           vector(2, extensions);
  return '\x01' + vector(3, body);
}

std::string records(const std::string& message, std::size_t size = 16384) {
  std::string out;
  for (std::size_t at = 0; at < message.size(); at += size)
    out += "\x16\x03\x01" + vector(2, message.substr(at, size));
  return out;
}

TEST(ClientHello, TheNameIsFound) {
  ClientHelloReader reader;
  EXPECT_EQ(reader.feed(records(message(extension(10, "groups") + server_name("a.example")))),
            State::complete);
  EXPECT_EQ(reader.server_name(), "a.example");
  EXPECT_FALSE(reader.encrypted());
}

TEST(ClientHello, InAnyPieces) {
  const std::string bytes = records(message(server_name("a.example")), 3);
  for (std::size_t piece = 1; piece < 40; ++piece) {
    ClientHelloReader reader;
    State state = State::need_more;
    for (std::size_t at = 0; at < bytes.size() && state == State::need_more; at += piece)
      state = reader.feed(std::string_view(bytes).substr(at, piece));
    EXPECT_EQ(state, State::complete);
    EXPECT_EQ(reader.server_name(), "a.example");
  }
}

TEST(ClientHello, LargerThanARecord) {
  ClientHelloReader reader;
  const std::string large = extension(21, std::string(40'000, '\0'));
  EXPECT_EQ(reader.feed(records(message(large + server_name("a.example")))), State::complete);
  EXPECT_EQ(reader.server_name(), "a.example");
}

TEST(ClientHello, WithoutANameAndEncrypted) {
  ClientHelloReader none;
  EXPECT_EQ(none.feed(records(message(extension(10, "x")))), State::complete);
  EXPECT_EQ(none.server_name(), "");
  ClientHelloReader encrypted;
  EXPECT_EQ(encrypted.feed(records(message(extension(0xfe0d, "x") + server_name("outer")))),
            State::complete);
  EXPECT_TRUE(encrypted.encrypted());
}

TEST(ClientHello, WhatIsNone) {
  const auto read = [](const std::string& bytes) { return ClientHelloReader().feed(bytes); };
  EXPECT_EQ(read("GET / HTTP/1.1\r\n"), State::not_tls);
  EXPECT_EQ(read("\x16\x02"), State::not_tls);
  EXPECT_EQ(read("\x16\x03"), State::need_more);
  EXPECT_EQ(read(records("\x02" + std::string(3, '\0'))), State::malformed);  // another message
  EXPECT_EQ(read(std::string("\x16\x03\x01\x00\x00", 5)), State::malformed);  // an empty record
  EXPECT_EQ(read("\x16\x03\x01\xff\xff"), State::malformed);                  // too long a record
  EXPECT_EQ(read(records("\x01\xff\xff\xff")), State::malformed);             // too long a message
  EXPECT_EQ(read(records(message("").substr(0, 20)) + "\x17\x03\x03"), State::malformed);
}

TEST(ClientHello, LengthsThatLie) {
  const std::string whole = message(server_name("a.example"));
  // Each octet of the message's lengths and contents in turn: never read beyond, never accepted
  // with another name that was not sent.
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char value : {'\0', '\1', '\x7f', '\xff'}) {
      std::string changed = whole;
      changed[i] = value;
      ClientHelloReader reader;
      if (reader.feed(records(changed)) == State::complete) {
        EXPECT_LE(reader.server_name().size(), whole.size());
      }
    }
  }
  ClientHelloReader twice;
  EXPECT_EQ(twice.feed(records(message(server_name("a.example") + server_name("b.example")))),
            State::malformed);
}

}  // namespace
}  // namespace sluice::gateway::tls
