#include "gateway/ai/proxy/vendor_request.h"

#include <algorithm>
#include <array>

#include "gateway/http1/field_reader.h"
#include "gateway/http1/head_writer.h"

namespace sluice::gateway::ai {
namespace {

using http1::Field;
using http1::KnownField;
using http1::KnownFieldSet;
using http1::RequestWriter;

constexpr KnownFieldSet kNeverSent{KnownField::host,
                                   KnownField::content_length,
                                   KnownField::transfer_encoding,
                                   KnownField::expect,
                                   KnownField::trailer,
                                   KnownField::authorization,
                                   KnownField::proxy_authorization,
                                   KnownField::cookie,
                                   KnownField::accept_encoding,
                                   KnownField::forwarded,
                                   KnownField::x_forwarded_for,
                                   KnownField::x_forwarded_host,
                                   KnownField::x_forwarded_port,
                                   KnownField::x_forwarded_prefix,
                                   KnownField::x_forwarded_proto,
                                   KnownField::x_forwarded_scheme,
                                   KnownField::x_forwarded_server,
                                   KnownField::x_forwarded_ssl,
                                   KnownField::x_real_ip,
                                   KnownField::origin,
                                   KnownField::referer,
                                   KnownField::via,
                                   KnownField::traceparent,
                                   KnownField::tracestate};
constexpr std::size_t kAdded = 384;  // bytes, as a rule
constexpr std::array<std::string_view, 3> kKeyFields{"x-api-key", "api-key", "x-goog-api-key"};
// Whose account is asked, and billed: a vendor refuses a key that does not belong to it, which then
// rests for everybody.
constexpr std::array<std::string_view, 3> kAccountFields{"openai-organization", "openai-project",
                                                         "x-goog-user-project"};

constexpr std::array<std::string_view, 2> kVendorPrefixes{"anthropic-", "openai-"};

constexpr KnownFieldSet kGiven{KnownField::content_type, KnownField::content_encoding,
                               KnownField::cache_control, KnownField::x_request_id,
                               KnownField::retry_after};
constexpr std::array<std::string_view, 3> kGivenByName{"request-id", "openai-version",
                                                       "openai-processing-ms"};
constexpr KnownFieldSet kNeverGiven{KnownField::content_length,
                                    KnownField::transfer_encoding,
                                    KnownField::trailer,
                                    KnownField::set_cookie,
                                    KnownField::server,
                                    KnownField::date,
                                    KnownField::via};

bool one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::any_of(
      names, [&](std::string_view known) { return http1::equals_ignoring_case(name, known); });
}

bool contains_ignoring_case(std::string_view name, std::string_view lower) {
  for (std::size_t at = 0; at + lower.size() <= name.size(); ++at)
    if (http1::equals_ignoring_case(name.substr(at, lower.size()), lower)) return true;
  return false;
}

// What says something of the gateway's own account with the vendor. No field that is known by its
// number does.
bool is_of_account(const Field& field) {
  return field.id == KnownField::unknown && (contains_ignoring_case(field.name, "ratelimit") ||
                                             contains_ignoring_case(field.name, "organization") ||
                                             contains_ignoring_case(field.name, "openai-project"));
}

bool is_given(const Field& field) {
  return field.id == KnownField::unknown ? one_of(kGivenByName, field.name)
                                         : kGiven.contains(field.id);
}

// A model's name within a path.
void append_segment(std::string_view text, std::string& out) {
  constexpr std::string_view kPlain = "-._~:@/";
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       kPlain.find(c) != std::string_view::npos;
    if (plain) {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kDigits[byte >> 4]);
      out.push_back(kDigits[byte & 15]);
    }
  }
}

std::string_view openai_path(Operation operation) {
  return operation == Operation::embeddings ? "/embeddings" : "/chat/completions";
}

// Models are in the path; whoever speaks this shape has said what to do with them as well.
void append_gemini_call(const VendorRequest& request, std::string& out) {
  const Endpoint& endpoint = *request.endpoint;
  const bool same = endpoint.shape == Shape::gemini;
  const bool versioned = same && !endpoint.version.empty();
  out.append("/").append(versioned ? endpoint.version : "v1beta").append("/models/");
  append_segment(request.model, out);
  out.append(":");
  if (same)
    out.append(endpoint.verb);
  else if (endpoint.operation == Operation::embeddings)
    out.append("batchEmbedContents");
  else
    out.append(request.stream ? "streamGenerateContent?alt=sse" : "generateContent");
}

// Of a call that another shape's caller made, or that both shapes know.
void append_known_path(const VendorRequest& request, std::string& out) {
  const Provider& provider = *request.provider;
  const Operation operation = request.endpoint->operation;
  switch (provider.shape) {
    case Shape::anthropic:
      out.append("/v1/messages");
      return;
    case Shape::gemini:
      return append_gemini_call(request, out);
    case Shape::openai:
      break;
  }
  if (!provider.api_version.empty()) {
    out.append("/deployments/");
    append_segment(request.model, out);
  }
  out.append(openai_path(operation));
  if (!provider.api_version.empty()) out.append("?api-version=").append(provider.api_version);
}

void append_target(const VendorRequest& request, std::string& out) {
  const Endpoint& endpoint = *request.endpoint;
  const Provider& provider = *request.provider;
  const bool same = is_native(endpoint, provider);
  const std::size_t begin = out.size();
  out.append(provider.path);
  if (endpoint.operation == Operation::chat || endpoint.operation == Operation::embeddings ||
      !endpoint.verb.empty() || !same) {
    append_known_path(request, out);
  } else {
    if (endpoint.upload) out.append("/upload");
    if (provider.shape != Shape::openai) out.append("/").append(endpoint.version);
    out.append(endpoint.path);
  }
  if (!same || request.query.empty()) return;
  const std::string query = without_key(request.query);
  if (query.empty()) return;
  const bool more = std::string_view(out).substr(begin).find('?') != std::string_view::npos;
  out.append(more ? "&" : "?").append(query);
}

// Keys were looked at when they were read: they have no spaces and no controls.
void write_key(const Provider& provider, std::string_view key, RequestWriter& writer) {
  if (key.empty()) return;
  switch (provider.kind) {
    case policy::AiKind::anthropic:
      return writer.field("x-api-key", key, KnownField::unknown);
    case policy::AiKind::gemini:
      return writer.field("x-goog-api-key", key, KnownField::unknown);
    case policy::AiKind::azure:
      return writer.field("api-key", key, KnownField::unknown);
    case policy::AiKind::openai:
    case policy::AiKind::mistral:
    case policy::AiKind::compatible:
      return writer.field("authorization", key, KnownField::authorization, "Bearer ");
  }
}

void write_caller_fields(const http1::RequestHead& caller, bool callers_key,
                         RequestWriter& writer) {
  const http1::FieldTable& fields = caller.fields();
  const KnownFieldSet left_out = http1::kHopByHop | kNeverSent;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field field = fields[i];
    if (left_out.contains(field.id) || fields.entry(i).nominated ||
        (field.id == KnownField::unknown &&
         (one_of(kKeyFields, field.name) ||
          (!callers_key && one_of(kAccountFields, field.name))))) {
      continue;
    }
    writer.field(field.name, field.value, field.id);
  }
}

}  // namespace

bool write_vendor_head(const VendorRequest& request, const http1::RequestHead& caller,
                       std::string& text, http1::RequestHead& head) {
  const Provider& provider = *request.provider;
  const bool same = is_native(*request.endpoint, provider);
  text.reserve(caller.size() + kAdded);
  RequestWriter writer(text, head);
  writer.method(caller);
  append_target(request, text);
  writer.host(provider.authority);
  write_key(provider, request.key, writer);
  if (same) {
    write_caller_fields(caller, request.callers_key, writer);
  } else {
    writer.field("content-type", "application/json", KnownField::content_type);
    writer.field("accept", request.stream ? "text/event-stream" : "application/json",
                 KnownField::accept);
    writer.field("user-agent", "sluice/" SLUICE_VERSION, KnownField::user_agent);
  }
  // What is packed can neither be filtered nor counted.
  writer.field("accept-encoding", "identity", KnownField::accept_encoding);
  if (provider.shape == Shape::anthropic &&
      (!same || caller.fields().first("anthropic-version").empty())) {
    writer.field("anthropic-version", "2023-06-01", KnownField::unknown);
  }
  return writer.end(request.body_size);
}

std::string api_fields(const http1::RequestHead& caller) {
  std::string out;
  const http1::FieldTable& fields = caller.fields();
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field field = fields[i];
    if (field.id != KnownField::unknown) continue;
    const bool vendors = std::ranges::any_of(kVendorPrefixes, [&](std::string_view prefix) {
      return http1::equals_ignoring_case(field.name.substr(0, prefix.size()), prefix);
    });
    if (!vendors) continue;
    for (const char c : field.name)
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c);
    out.append(": ").append(field.value).append("\n");
  }
  return out;
}

void write_answer_fields(const http1::ResponseHead& answer, bool all, std::string& out) {
  const http1::FieldTable& fields = answer.fields();
  const KnownFieldSet left_out = http1::kHopByHop | kNeverGiven;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field field = fields[i];
    if (left_out.contains(field.id) || fields.entry(i).nominated) continue;
    if (!all && !is_given(field)) continue;
    if (is_of_account(field)) continue;
    out.append(field.name).append(": ").append(field.value).append("\r\n");
  }
}

std::string without_key(std::string_view query) {
  std::string out;
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view parameter = query.substr(0, end);
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    if (parameter.empty() || parameter.starts_with("key=")) continue;
    out.append(out.empty() ? "" : "&").append(parameter);
  }
  return out;
}

}  // namespace sluice::gateway::ai
