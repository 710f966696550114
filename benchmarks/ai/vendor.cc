// A stand-in of OpenAI's chat completions that costs next to nothing: `vendor PORT`, one thread, loopback only.
// The model's name says how it answers: `bench-TOKENS-PAUSE` is TOKENS events with a word each, PAUSE ms between two of them. The role
// and the first word go out with the head, so that what a caller waits for the first word is the gateway's doing.
#include <boost/asio.hpp>
#include <boost/beast.hpp>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Socket = asio::ip::tcp::socket;

struct Wanted {
  int tokens = 1;
  std::chrono::milliseconds pause{0};
  bool stream = false;
};

// JSON as gateways write it, with or without spaces: enough for our own requests.
Wanted wanted_of(const std::string& body) {
  Wanted wanted;
  if (const auto at = body.find("bench-"); at != std::string::npos) {
    const char *begin = body.data() + at + 6, *end = body.data() + body.size();
    int pause = 0;
    const auto tokens = std::from_chars(begin, end, wanted.tokens);
    if (tokens.ptr < end) std::from_chars(tokens.ptr + 1, end, pause);
    wanted.pause = std::chrono::milliseconds(pause);
  }
  wanted.stream = body.find("\"stream\":true") != std::string::npos || body.find("\"stream\": true") != std::string::npos;
  return wanted;
}

const std::string kPrefix = R"({"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1764000000,"model":"bench","choices":[)";

std::string chunk(const std::string& choices, const std::string& more = "") {
  const std::string event = "data: " + kPrefix + choices + "]" + more + "}\n\n";
  char size[17];
  return std::string(size, std::to_chars(size, size + 16, event.size(), 16).ptr) + "\r\n" + event + "\r\n";
}

const std::string kUsage = R"("usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18})";
const std::string kWord = chunk(R"({"index":0,"delta":{"content":" wordzq"},"finish_reason":null})");
const std::string kBegin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n" +
                           chunk(R"({"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null})") + kWord;
const std::string kEnd = chunk(R"({"index":0,"delta":{},"finish_reason":"stop"})") + chunk("", "," + kUsage) + "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

std::string whole() {
  const std::string body = R"({"id":"chatcmpl-bench","object":"chat.completion","created":1764000000,"model":"bench","choices":[{"index":0,)"
                           R"("message":{"role":"assistant","content":" wordzq and as many more as an answer of one line has"},)"
                           R"("finish_reason":"stop"}],)" + kUsage + "}";
  return "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

const std::string kWhole = whole();

asio::awaitable<void> stream(Socket& socket, Wanted wanted) {
  asio::steady_timer timer(socket.get_executor());
  auto due = std::chrono::steady_clock::now();
  co_await asio::async_write(socket, asio::buffer(kBegin), asio::use_awaitable);
  for (int sent = 1; sent < wanted.tokens; ++sent) {
    timer.expires_at(due += wanted.pause);
    if (wanted.pause.count() > 0) co_await timer.async_wait(asio::use_awaitable);
    co_await asio::async_write(socket, asio::buffer(kWord), asio::use_awaitable);
  }
  co_await asio::async_write(socket, asio::buffer(kEnd), asio::use_awaitable);
}

asio::awaitable<void> serve(Socket socket) try {
  socket.set_option(asio::ip::tcp::no_delay(true));
  boost::beast::flat_buffer buffer;
  for (;;) {
    http::request<http::string_body> request;
    co_await http::async_read(socket, buffer, request, asio::use_awaitable);
    const Wanted wanted = wanted_of(request.body());
    if (wanted.stream)
      co_await stream(socket, wanted);
    else
      co_await asio::async_write(socket, asio::buffer(kWhole), asio::use_awaitable);
  }
} catch (const boost::system::system_error&) {  // the caller has gone
}

asio::awaitable<void> listen(asio::ip::port_type port) {
  asio::ip::tcp::acceptor acceptor(co_await asio::this_coro::executor, {asio::ip::address_v4::loopback(), port});
  acceptor.listen(4096);
  for (;;) asio::co_spawn(acceptor.get_executor(), serve(co_await acceptor.async_accept(asio::use_awaitable)), asio::detached);
}

}  // namespace

int main(int, char** argv) {
  asio::io_context context(1);
  asio::co_spawn(context, listen(static_cast<asio::ip::port_type>(std::atoi(argv[1]))), [](std::exception_ptr error) {
    if (error) std::rethrow_exception(error);
  });
  context.run();
}
