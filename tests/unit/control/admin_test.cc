// The admin socket, both ends.
#include <cstring>
#include <future>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "gateway/control/admin_client.h"
#include "gateway/control/admin_server.h"
#include "tests/unit/control/scratch_directory.h"

namespace sluice::gateway {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

class AdminTest : public testing::Test {
 protected:
  void serve(AdminServer::Handler handler) {
    auto server = AdminServer::listen(io_, path_, std::move(handler));
    ASSERT_TRUE(server) << server.error();
    server_ = std::move(*server);
    thread_ = std::jthread([this] { io_.run(); });
  }
  ~AdminTest() override {
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  ScratchDirectory scratch_;
  std::string path_ = scratch_ / "run/s.sock";
  boost::asio::io_context io_;
  std::unique_ptr<AdminServer> server_;
  std::jthread thread_;
};

void echo(const json::object& request, const AdminServer::Respond& respond) {
  respond({{"ok", true}, {"request", request}});
}

TEST_F(AdminTest, AsksAndAnswers) {
  serve(echo);
  for (int i = 0; i < 100; ++i) {
    const auto answer = ask_admin(path_, {{"command", "x"}, {"n", i}}, 20s);
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->at("request").at("n").as_int64(), i);
  }
}

TEST_F(AdminTest, APlaceThatAnotherCouldHaveMadeIsNotOnesOwn) {
  const std::string mine = scratch_ / "mine";
  ASSERT_EQ(::mkdir(mine.c_str(), 0700), 0);
  EXPECT_TRUE(is_own_directory(mine));
  EXPECT_FALSE(is_own_directory(scratch_ / "none"));
  EXPECT_FALSE(is_own_directory(scratch_.write("file", "")));
  const std::string link = scratch_ / "link";
  ASSERT_EQ(::symlink(mine.c_str(), link.c_str()), 0);
  EXPECT_FALSE(is_own_directory(link));
  ASSERT_EQ(::chmod(mine.c_str(), 0770), 0);
  EXPECT_FALSE(is_own_directory(mine));
  ASSERT_EQ(::chmod(mine.c_str(), 0700), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(mine.c_str(), 65534, 65534), 0);
    EXPECT_FALSE(is_own_directory(mine));
  }
  EXPECT_EQ(distrust_of_place(link + "/s.sock"), "") << "who names a place has chosen it";
}

TEST_F(AdminTest, AStreamTellsLineByLineUntilItsReaderGoes) {
  std::shared_ptr<AdminStream> stream;
  auto server = AdminServer::listen(
      io_, path_, echo,
      [&](const json::object& request, const std::shared_ptr<AdminStream>& opened) {
        if (request.at("command") != "follow") return false;
        stream = opened;
        for (int i = 0; i < 1000; ++i)
          stream->send({{"n", i}, {"text", std::string(1000, 'x')}});
        return true;
      });
  ASSERT_TRUE(server) << server.error();
  server_ = std::move(*server);
  thread_ = std::jthread([this] { io_.run(); });
  int next = 0;
  const auto done = follow_admin(path_, {{"command", "follow"}}, [&](const json::object& line) {
    EXPECT_EQ(line.at("n").as_int64(), next);
    return ++next < 1000;
  });
  EXPECT_TRUE(done);
  EXPECT_EQ(next, 1000);
  // The reader went: the stream knows it.
  bool open = true;
  for (int i = 0; i < 500 && open; ++i) {
    std::promise<bool> answer;
    boost::asio::post(io_, [&] { answer.set_value(stream->open()); });
    open = answer.get_future().get();
    if (open) ::usleep(10'000);
  }
  EXPECT_FALSE(open);
  // What is no stream is answered as ever.
  EXPECT_TRUE(ask_admin(path_, {{"command", "x"}}, 20s));
  io_.stop();
  thread_.join();
  stream.reset();
}

TEST_F(AdminTest, OnlyItsOwnerMayUseIt) {
  serve(echo);
  struct stat status{};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat((scratch_ / "run").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
}

TEST_F(AdminTest, ALongAnswerArrivesWhole) {
  serve([](const json::object&, const AdminServer::Respond& respond) {
    respond({{"ok", true}, {"text", std::string(8 << 20, 'x')}});
  });
  const auto answer = ask_admin(path_, {{"command", "x"}}, 60s);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->at("text").as_string().size(), 8U << 20);
}

TEST_F(AdminTest, ALiveSocketIsRefusedAStaleOneReplaced) {
  serve(echo);
  boost::asio::io_context other;
  const auto second = AdminServer::listen(other, path_, echo);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error(), testing::HasSubstr("another sluice answers here"));

  // Left behind by a process that was killed: bound, nobody accepts.
  const std::string stale = scratch_ / "stale.sock";
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, stale.c_str());
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ::close(fd);
  const auto third = AdminServer::listen(other, stale, echo);
  EXPECT_TRUE(third) << third.error();
}

TEST_F(AdminTest, AFileInItsPlaceIsLeftAlone) {
  const std::string file = scratch_.write("precious", "text");
  const auto server = AdminServer::listen(io_, file, echo);
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error(), testing::HasSubstr("not a socket"));
  EXPECT_TRUE(std::filesystem::is_regular_file(file));
}

TEST_F(AdminTest, WhatIsNoRequestGetsAnError) {
  serve(echo);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path_.c_str());
  ASSERT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::send(fd, "[1,2]\n", 6, MSG_NOSIGNAL), 6);
  std::string text;
  char buffer[256];
  for (ssize_t size = 0; (size = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
    text.append(buffer, static_cast<std::size_t>(size));
  ::close(fd);
  EXPECT_THAT(text, testing::HasSubstr("not a JSON object"));

  constexpr std::size_t kMoreThanAPolicy = 25UL << 20;
  const auto large = ask_admin(path_, {{"command", std::string(kMoreThanAPolicy, 'x')}}, 20s);
  EXPECT_TRUE(!large || !large->at("ok").as_bool());
}

TEST_F(AdminTest, NobodyThereIsSaidPlainly) {
  const auto answer = ask_admin(path_, {{"command", "x"}}, 1s);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, AdminError::Kind::not_running);
  EXPECT_THAT(answer.error().message, testing::HasSubstr("no sluice answers on " + path_));
}

TEST_F(AdminTest, TheSocketGoesWithTheServer) {
  {
    boost::asio::io_context io;
    const auto server = AdminServer::listen(io, path_, echo);
    ASSERT_TRUE(server);
    EXPECT_TRUE(std::filesystem::exists(path_));
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace sluice::gateway
