// What the gateway itself spends on a message's head: parsing, and building the head that goes on.
// `cycles per request` of the proxy's user time begins here; the aim is well below 0.5 µs for a
// usual request.
#include <array>
#include <benchmark/benchmark.h>
#include <string>

#include "gateway/http1/chunked.h"
#include "gateway/http1/forward.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::http1 {
namespace {

// Eight fields, as an API's client sends them.
const std::string kApiRequest =
    "GET /v1/items/4711?expand=prices&limit=50 HTTP/1.1\r\n"
    "Host: api.example.com\r\n"
    "User-Agent: python-requests/2.28.1\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Accept: application/json\r\n"
    "Connection: keep-alive\r\n"
    "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n"
    "X-Request-Id: 5f0c1a52-8f6e-4a44-9d0d-0f4d3a5f6c11\r\n"
    "Content-Type: application/json\r\n"
    "\r\n";

const std::string kSmallRequest = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const std::string kBrowserRequest =
    "GET /assets/app.css HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/118.0.0.0 Safari/537.36\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\n"
    "Accept: text/css,*/*;q=0.1\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: no-cors\r\n"
    "Sec-Fetch-Dest: style\r\n"
    "Referer: https://www.example.com/\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1\r\n"
    "\r\n";

const std::string kResponse =
    "HTTP/1.1 200 OK\r\n"
    "Server: nginx/1.22.1\r\n"
    "Date: Tue, 24 Nov 2026 01:00:00 GMT\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 1024\r\n"
    "Connection: keep-alive\r\n"
    "ETag: \"65606f0f-400\"\r\n"
    "Accept-Ranges: bytes\r\n"
    "\r\n";

void parse_request(benchmark::State& state, const std::string& bytes) {
  RequestHead head;
  for (auto _ : state) {
    RequestParser parser;
    if (parser.parse(bytes, head) != Progress::complete) state.SkipWithError("refused");
    benchmark::DoNotOptimize(head.size());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * bytes.size()));
}
BENCHMARK_CAPTURE(parse_request, small, kSmallRequest);
BENCHMARK_CAPTURE(parse_request, api_8_fields, kApiRequest);
BENCHMARK_CAPTURE(parse_request, browser_15_fields, kBrowserRequest);

void parse_response(benchmark::State& state) {
  ResponseHead head;
  for (auto _ : state) {
    ResponseParser parser;
    if (parser.parse(kResponse, {}, head) != Progress::complete) state.SkipWithError("refused");
    benchmark::DoNotOptimize(head.size());
  }
}
BENCHMARK(parse_response);

void forward_api_request(benchmark::State& state) {
  RequestParser parser;
  RequestHead head;
  if (parser.parse(kApiRequest, head) != Progress::complete) state.SkipWithError("refused");
  const ExtraField extra[] = {{"x-forwarded-for", "192.0.2.1"}, {"x-forwarded-proto", "http"}};
  std::array<char, 1024> scratch;
  for (auto _ : state) {
    OutgoingHead out(scratch);
    if (!forward_request(head, {.add = extra}, out)) state.SkipWithError("does not fit");
    benchmark::DoNotOptimize(out.slices().data());
  }
}
BENCHMARK(forward_api_request);

void forward_plain_response(benchmark::State& state) {
  ResponseParser parser;
  ResponseHead head;
  if (parser.parse(kResponse, {}, head) != Progress::complete) state.SkipWithError("refused");
  std::array<char, 1024> scratch;
  for (auto _ : state) {
    OutgoingHead out(scratch);
    if (!forward_response(head, {}, out)) state.SkipWithError("does not fit");
    benchmark::DoNotOptimize(out.slices().data());
  }
}
BENCHMARK(forward_plain_response);

void normalise(benchmark::State& state, std::string_view path) {
  std::array<char, 256> scratch;
  for (auto _ : state)
    benchmark::DoNotOptimize(normalise_path(path, scratch));
}
BENCHMARK_CAPTURE(normalise, plain, "/v1/items/4711/prices/current");
BENCHMARK_CAPTURE(normalise, dots_and_escapes, "/v1/./items//%34711/../prices/%63urrent");

void relay_chunks(benchmark::State& state) {
  std::string body;
  for (int i = 0; i < 16; ++i)
    body += "400\r\n" + std::string(1024, 'x') + "\r\n";
  body += "0\r\n\r\n";
  for (auto _ : state) {
    ChunkedDecoder decoder;
    if (decoder.next_verbatim(body).status != ChunkedStatus::done) state.SkipWithError("refused");
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * body.size()));
}
BENCHMARK(relay_chunks);

}  // namespace
}  // namespace sluice::gateway::http1

BENCHMARK_MAIN();
