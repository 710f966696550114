// One line of the access log, as JSON or as text.
#include <cstdio>
#include <ctime>

#include "gateway/access_log.h"
#include "gateway/text_escapes.h"

namespace sluice::gateway {

namespace {

constexpr std::string_view kCutMark = "…";
constexpr std::string_view kQueryMark = "?…";
constexpr std::array<std::string_view, 4> kKinds{"request", "open", "close", "refused"};
constexpr std::array<std::string_view, 4> kWayNamed{"bind", "local", "forward", "output"};

// Spaces too: the text format is one of columns.
void append_text_string(std::string& out, std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_sequence(text.substr(i));
    if (byte <= 0x20 || byte == 0x7f || byte == '\\' || byte == '"' || length == 0) {
      append_byte_escape(out, "\\x%02x", byte);
      ++i;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
}

void append_time(std::string& out, std::chrono::system_clock::time_point time) {
  const auto since = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch());
  const std::time_t seconds = since.count() / 1'000'000;
  tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[48];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof text - length, ".%06ldZ",
                static_cast<long>(since.count() % 1'000'000));
  out += text;
}

void append_milliseconds(std::string& out, std::chrono::nanoseconds duration) {
  char text[32];
  const long long us = duration.count() / 1000;
  std::snprintf(text, sizeof text, "%lld.%03lld", us / 1000, us % 1000);
  out += text;
}

class JsonLine {
 public:
  explicit JsonLine(std::string& out) : out_(out) { out_ += '{'; }
  void end() { out_ += '}'; }

  void text(std::string_view key, std::string_view value) {
    begin_text(key);
    append_json_string(out_, value);
    out_ += '"';
  }
  template <std::size_t N>
  void bounded(std::string_view key, const BoundedText<N>& value) {
    if (value.empty()) return;
    begin_text(key);
    append_json_string(out_, value.view());
    if (value.cut()) out_ += kCutMark;
    out_ += '"';
  }
  void path(const AccessRecord& record) {
    if (record.path.empty()) return;
    begin_text("path");
    append_json_string(out_, record.path.view());
    if (record.path.cut()) out_ += kCutMark;
    if (record.query) out_ += kQueryMark;
    out_ += '"';
  }
  void address(std::string_view key, const policy::SocketAddress& value) {
    if (value != policy::SocketAddress{}) text(key, value.to_string());
  }
  void number(std::string_view key, std::uint64_t value) {
    name(key);
    out_ += std::to_string(value);
  }
  void duration(std::string_view key, std::chrono::nanoseconds value) {
    if (value.count() < 0) return;
    name(key);
    append_milliseconds(out_, value);
  }
  void time(std::string_view key, std::chrono::system_clock::time_point value) {
    begin_text(key);
    append_time(out_, value);
    out_ += '"';
  }

 private:
  void name(std::string_view key) {
    if (out_.back() != '{') out_ += ',';
    out_ += '"';
    out_ += key;
    out_ += "\":";
  }
  void begin_text(std::string_view key) {
    name(key);
    out_ += '"';
  }

  std::string& out_;
};

template <std::size_t N>
void text_or_dash(std::string& out, const BoundedText<N>& value) {
  if (value.empty()) out += '-';
  append_text_string(out, value.view());
  if (value.cut()) out += kCutMark;
}

void address_or_dash(std::string& out, const policy::SocketAddress& value) {
  out += value == policy::SocketAddress{} ? "-" : value.to_string();
}

std::string_view way_name(WayIn way) {
  return kWayNamed[static_cast<std::size_t>(way) % kWayNamed.size()];
}

}  // namespace

void format_access_json(const AccessRecord& record, std::string& out) {
  JsonLine line(out);
  line.time("time", record.time);
  line.text("kind", kKinds[static_cast<std::size_t>(record.kind)]);
  line.number("connection", record.connection);
  if (record.request != 0) line.number("request", record.request);
  line.bounded("listener", record.listener);
  line.text("way", way_name(record.way));
  line.address("client", record.client);
  line.address("destination", record.destination);
  line.bounded("method", record.method);
  line.bounded("host", record.host);
  line.path(record);
  line.bounded("route", record.route);
  line.bounded("upstream", record.upstream);
  line.address("endpoint", record.endpoint);
  if (record.attempts != 0) line.number("attempts", record.attempts);
  if (record.status != 0) line.number("status", static_cast<std::uint64_t>(record.status));
  if (record.grpc_status >= 0)
    line.number("grpc_status", static_cast<std::uint64_t>(record.grpc_status));
  using Kind = AccessRecord::Kind;
  if (record.kind == Kind::request || record.kind == Kind::close) {
    line.number("bytes_in", record.bytes_in);
    line.number("bytes_out", record.bytes_out);
  }
  line.duration("duration_ms", record.total);
  line.duration("wait_ms", record.wait);
  line.duration("connect_ms", record.connect);
  line.duration("first_byte_ms", record.first_byte);
  line.bounded("request_id", record.request_id);
  line.bounded("trace_id", record.trace_id);
  line.bounded("reason", record.reason);
  line.end();
}

void format_access_text(const AccessRecord& record, std::string& out) {
  append_time(out, record.time);
  out += ' ';
  out += kKinds[static_cast<std::size_t>(record.kind)];
  out += ' ';
  text_or_dash(out, record.listener);
  out += '/';
  out += way_name(record.way);
  out += ' ';
  address_or_dash(out, record.client);
  out += '>';
  address_or_dash(out, record.destination);
  out += " \"";
  text_or_dash(out, record.method);
  out += ' ';
  text_or_dash(out, record.host);
  out += ' ';
  text_or_dash(out, record.path);
  if (record.query) out += kQueryMark;
  out += "\" ";
  text_or_dash(out, record.route);
  out += ' ';
  text_or_dash(out, record.upstream);
  out += '>';
  address_or_dash(out, record.endpoint);
  out += ' ' + std::to_string(record.status) + ' ' + std::to_string(record.bytes_in) + '/' +
         std::to_string(record.bytes_out) + ' ';
  if (record.total.count() < 0) {
    out += '-';
  } else {
    append_milliseconds(out, record.total);
    out += "ms";
  }
  out += ' ';
  text_or_dash(out, record.request_id);
  out += ' ';
  text_or_dash(out, record.reason);
}

}  // namespace sluice::gateway
