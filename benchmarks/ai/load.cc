// Callers of chat completions, a thread and a connection each: `load PORT CONNECTIONS REQUESTS SECONDS BODY [HEADER...]`. Each sends BODY
// again and again until REQUESTS have been made by all together or SECONDS are over, and reads each answer whole. Prints one object of
// JSON: requests, words, errors, and the percentiles of the time to the first word and to the end, in µs.
#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;

constexpr std::string_view kMark = "zq";  // in each word of the stand-in's, and nowhere else

struct Seen {
  std::vector<double> first, last;  // µs
  long words = 0, errors = 0;
};

struct Plan {
  asio::ip::tcp::endpoint to;
  std::string request;
  Clock::time_point end;
  std::atomic<long> left;
};

double micros(Clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

// Words in what has come, also those that lie across two reads.
class Words {
 public:
  long count(std::string_view text) {
    rest_ += text;
    long found = 0;
    size_t from = 0;
    for (size_t at; (at = rest_.find(kMark, from)) != std::string::npos; from = at + kMark.size()) ++found;
    rest_.erase(0, std::max(from, rest_.size() - std::min(rest_.size(), kMark.size() - 1)));
    return found;
  }

 private:
  std::string rest_;
};

// One request and its whole answer. False: the connection is of no more use.
bool exchange(asio::ip::tcp::socket& socket, boost::beast::flat_buffer& buffer, const Plan& plan, Seen& seen) {
  const auto begun = Clock::now();
  asio::write(socket, asio::buffer(plan.request));
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  http::read_header(socket, buffer, parser);
  Words words;
  long found = 0;
  char space[16384];
  while (!parser.is_done()) {
    auto& body = parser.get().body();
    body.data = space;
    body.size = sizeof space;
    boost::system::error_code error;
    http::read_some(socket, buffer, parser, error);
    if (error && error != http::error::need_buffer) throw boost::system::system_error(error);
    const long more = words.count({space, sizeof space - body.size});
    if (found == 0 && more > 0) seen.first.push_back(micros(Clock::now() - begun));
    found += more;
  }
  seen.last.push_back(micros(Clock::now() - begun));
  seen.words += found;
  if (parser.get().result_int() != 200 || found == 0) ++seen.errors;
  return parser.get().keep_alive();
}

void caller(Plan& plan, Seen& seen) {
  asio::io_context context;
  asio::ip::tcp::socket socket(context);
  boost::beast::flat_buffer buffer;
  bool connected = false;
  while (plan.left.fetch_sub(1) > 0 && Clock::now() < plan.end) {
    try {
      if (!connected) {
        socket = asio::ip::tcp::socket(context);
        buffer.clear();
        socket.connect(plan.to);
        socket.set_option(asio::ip::tcp::no_delay(true));
      }
      connected = exchange(socket, buffer, plan, seen);
    } catch (const boost::system::system_error&) {
      ++seen.errors;
      connected = false;
    }
  }
}

void percentiles(const char* name, std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) { return values.empty() ? 0.0 : values[std::min(values.size() - 1, static_cast<size_t>(part * values.size()))]; };
  std::printf(", \"%s\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f}", name, at(0.5), at(0.9), at(0.99));
}

std::string request_of(int count, char** arguments) {
  const std::string body = arguments[5];
  std::string head = "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n";
  for (int i = 6; i < count; ++i) head += std::string(arguments[i]) + "\r\n";
  return head + "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 6) return std::fputs("usage: load PORT CONNECTIONS REQUESTS SECONDS BODY [HEADER...]\n", stderr), 2;
  const auto number = [&](int at) { return std::atol(arguments[at]); };
  Plan plan{{asio::ip::address_v4::loopback(), static_cast<asio::ip::port_type>(number(1))}, request_of(count, arguments),
            Clock::now() + std::chrono::seconds(number(4)), number(3)};
  std::vector<Seen> seen(static_cast<size_t>(number(2)));
  {
    std::vector<std::jthread> callers;
    for (Seen& of_one : seen) callers.emplace_back([&] { caller(plan, of_one); });
  }
  Seen all;
  for (const Seen& one : seen) {
    all.first.insert(all.first.end(), one.first.begin(), one.first.end());
    all.last.insert(all.last.end(), one.last.begin(), one.last.end());
    all.words += one.words;
    all.errors += one.errors;
  }
  std::printf("{\"requests\": %zu, \"words\": %ld, \"errors\": %ld", all.last.size(), all.words, all.errors);
  percentiles("first", all.first);
  percentiles("last", all.last);
  std::puts("}");
}
