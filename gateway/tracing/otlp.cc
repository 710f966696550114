#include "gateway/tracing/otlp.h"

#include <charconv>

#include <boost/json.hpp>

#include "gateway/text_escapes.h"

namespace sluice::gateway {

namespace {

namespace json = boost::json;

// SpanKind, StatusCode and TraceFlags of opentelemetry/proto/trace/v1/trace.proto.
constexpr int kInternal = 1;
constexpr int kServer = 2;
constexpr int kClient = 3;
constexpr unsigned kSampled = 1;
constexpr unsigned kHasIsRemote = 0x100;
constexpr unsigned kIsRemote = 0x200;
constexpr std::array<std::string_view, 4> kWayTexts{"bind", "local", "forward", "output"};

void append_number(std::string& out, std::int64_t value) {
  std::array<char, 24> digits;
  out.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
}

void append_id(std::string& out, std::uint64_t id) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (int shift = 60; shift >= 0; shift -= 4)
    out += kDigits[id >> shift & 15];
}

// http.request.method: what RFC 9110 and RFC 5789 know, else _OTHER.
bool is_known_method(std::string_view method) {
  constexpr std::array<std::string_view, 9> kMethods{
      "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  for (const std::string_view known : kMethods)
    if (method == known) return true;
  return false;
}

std::string_view version_of(std::string_view protocol) {
  const std::size_t slash = protocol.find('/');
  return slash == std::string_view::npos ? std::string_view() : protocol.substr(slash + 1);
}

int kind_of(Span::Kind kind) {
  if (kind == Span::Kind::request) return kServer;
  return kind == Span::Kind::attempt ? kClient : kInternal;
}

void append_name(std::string& out, const Span& span) {
  const std::string_view method = span.method.view();
  const std::string_view known =
      is_known_method(method) ? method : std::string_view("HTTP");  // bounded, whatever is sent
  if (span.kind == Span::Kind::decision) {
    out += "policy";
  } else if (span.kind == Span::Kind::attempt && !span.operation.empty()) {
    out.append(span.operation).append(" ");
    append_json_string(out, span.model.view());
  } else {
    out += known;
    if (span.kind == Span::Kind::request && !span.route_path.empty()) {
      out += ' ';
      append_json_string(out, span.route_path.view());
    }
  }
}

}  // namespace

OtlpWriter::OtlpWriter(std::string& out, std::string_view service) : out_(out) {
  out_ += R"({"resourceSpans":[{"resource":{"attributes":[)";
  text("service.name", service);
  text("service.version", SLUICE_VERSION);
  out_ += R"(]},"scopeSpans":[{"scope":{"name":"sluice","version":")" SLUICE_VERSION
          R"("},"spans":[)";
}

void OtlpWriter::end() {
  out_ += "]}]}]}";
}

void OtlpWriter::text(std::string_view key, std::string_view value) {
  if (value.empty()) return;
  if (!first_attribute_) out_ += ',';
  first_attribute_ = false;
  out_.append(R"({"key":")").append(key).append(R"(","value":{"stringValue":")");
  append_json_string(out_, value);
  out_ += R"("}})";
}

void OtlpWriter::number(std::string_view key, std::int64_t value) {
  if (!first_attribute_) out_ += ',';
  first_attribute_ = false;
  out_.append(R"({"key":")").append(key).append(R"(","value":{"intValue":")");
  append_number(out_, value);
  out_ += R"("}})";
}

void OtlpWriter::add(const Span& span) {
  if (!first_) out_ += ',';
  first_ = false;
  first_attribute_ = true;
  out_.append(R"({"traceId":")").append(span.trace.data(), span.trace.size());
  out_ += R"(","spanId":")";
  append_id(out_, span.id);
  if (span.parent != 0) {
    out_ += R"(","parentSpanId":")";
    append_id(out_, span.parent);
  }
  out_ += R"(","flags":)";
  append_number(out_, kSampled | kHasIsRemote | (span.remote_parent ? kIsRemote : 0U));
  out_ += R"(,"name":")";
  append_name(out_, span);
  out_ += R"(","kind":)";
  append_number(out_, kind_of(span.kind));
  out_ += R"(,"startTimeUnixNano":")";
  append_number(out_, span.begun);
  out_ += R"(","endTimeUnixNano":")";
  append_number(out_, span.ended);
  out_ += R"(","attributes":[)";
  switch (span.kind) {
    case Span::Kind::request:
      request(span);
      break;
    case Span::Kind::decision:
      decision(span);
      break;
    case Span::Kind::attempt:
      attempt(span);
      break;
  }
  text("error.type", span.error);
  out_ += "]";
  if (!span.error.empty()) {
    out_ += R"(,"status":{"code":2)";
    if (!span.reason.empty()) {
      out_ += R"(,"message":")";
      append_json_string(out_, span.reason.view());
      out_ += '"';
    }
    out_ += '}';
  }
  out_ += '}';
}

void OtlpWriter::request(const Span& span) {
  const bool known = is_known_method(span.method.view());
  text("http.request.method", known ? span.method.view() : std::string_view("_OTHER"));
  if (!known) text("http.request.method_original", span.method.view());
  text("url.scheme", span.scheme);
  text("url.path", span.path.view());
  text("server.address", span.host.view());
  text("client.address", span.client.view());
  text("network.peer.address", span.peer.address.to_string());
  number("network.peer.port", span.peer.port);
  text("network.protocol.version", version_of(span.protocol));
  text("http.route", span.route_path.view());
  if (span.status != 0) number("http.response.status_code", span.status);
  text("sluice.listener", span.listener.view());
  text("sluice.way", kWayTexts[static_cast<std::size_t>(span.way) % kWayTexts.size()]);
  text("sluice.route", span.route.view());
  text("sluice.reason", span.reason.view());
}

void OtlpWriter::decision(const Span& span) {
  text("sluice.decision", span.decision);
  text("sluice.listener", span.listener.view());
  text("sluice.route", span.route.view());
  text("sluice.upstream", span.upstream.view());
  text("sluice.reason", span.reason.view());
}

void OtlpWriter::attempt(const Span& span) {
  const bool known = is_known_method(span.method.view());
  text("http.request.method", known ? span.method.view() : std::string_view("_OTHER"));
  const std::string endpoint = span.endpoint.to_string();
  std::string url(span.scheme);
  url.append("://").append(endpoint).append(span.path.view());
  text("url.full", url);
  text("server.address", span.endpoint.address.to_string());
  number("server.port", span.endpoint.port);
  if (span.resends != 0) number("http.request.resend_count", span.resends);
  if (span.status != 0) number("http.response.status_code", span.status);
  text("sluice.upstream", span.upstream.view());
  model(span);
}

void OtlpWriter::model(const Span& span) {
  if (span.operation.empty()) return;
  text("gen_ai.operation.name", span.operation);
  text("gen_ai.provider.name", span.provider);
  text("gen_ai.request.model", span.model.view());
  if (span.input_tokens >= 0) number("gen_ai.usage.input_tokens", span.input_tokens);
  if (span.output_tokens >= 0) number("gen_ai.usage.output_tokens", span.output_tokens);
}

OtlpRejected rejected_by(std::string_view answer) {
  OtlpRejected out;
  boost::system::error_code error;
  const json::value parsed = json::parse(answer, error);
  const json::object* all = parsed.if_object();
  const json::value* part = error || all == nullptr ? nullptr : all->if_contains("partialSuccess");
  const json::object* partial = part == nullptr ? nullptr : part->if_object();
  if (partial == nullptr) return out;
  // An int64: a string, though some write a number.
  if (const json::value* count = partial->if_contains("rejectedSpans")) {
    if (const json::string* text = count->if_string())
      std::from_chars(text->data(), text->data() + text->size(), out.spans);
    else if (const std::int64_t* number = count->if_int64(); number != nullptr && *number > 0)
      out.spans = static_cast<std::uint64_t>(*number);
  }
  if (const json::value* why = partial->if_contains("errorMessage"))
    if (const json::string* text = why->if_string()) out.message.assign(text->data(), text->size());
  return out;
}

}  // namespace sluice::gateway
