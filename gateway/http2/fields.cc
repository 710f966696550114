#include "gateway/http2/fields.h"

#include <algorithm>

#include "gateway/http1/field_reader.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::http2 {

using http1::KnownField;
using http1::KnownFieldSet;

namespace {

nghttp2_nv make(std::string_view name, std::string_view value, bool secret) {
  // NOLINTBEGIN: nghttp2 does not write to them
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(),
          value.size(),
          static_cast<std::uint8_t>(secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE)};
  // NOLINTEND
}

// What an attacker could guess by the size of compressed heads (RFC 7541 section 7.1.3).
constexpr KnownFieldSet kSecret{KnownField::authorization, KnownField::proxy_authorization,
                                KnownField::cookie, KnownField::set_cookie};

bool wants_trailers(const http1::FieldTable& fields) {
  if (!fields.has(KnownField::te)) return false;
  bool wants = false;
  http1::for_each_element(fields.first(KnownField::te), [&](std::string_view coding) {
    wants |= http1::equals_ignoring_case(coding, "trailers");
    return true;
  });
  return wants;
}

}  // namespace

std::string_view FieldList::lower(std::string_view name) {
  if (std::ranges::none_of(name, [](char c) { return c >= 'A' && c <= 'Z'; })) return name;
  // None is left out for want of room: ours come last, and a client could have them left out.
  const bool fits = name.size() <= memory_.size() - used_;
  char* begin = fits ? memory_.data() + used_ : more_names_.emplace_front(name).data();
  std::ranges::transform(name, begin, http1::to_lower);
  if (fits) used_ += name.size();
  return {begin, name.size()};
}

void FieldList::add(std::string_view name, std::string_view value, bool secret) {
  const std::string_view lowered = lower(name);
  if (!lowered.empty()) fields_.push_back(make(lowered, value, secret));
}

void FieldList::add_status(int status) {
  status_ = {static_cast<char>('0' + status / 100), static_cast<char>('0' + status / 10 % 10),
             static_cast<char>('0' + status % 10)};
  add(":status", {status_.data(), status_.size()});
}

void FieldList::add_all(const http1::FieldTable& fields, KnownFieldSet drop) {
  const KnownFieldSet dropped =
      http1::kHopByHop | KnownFieldSet(KnownField::transfer_encoding) | drop;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const http1::FieldTable::Entry& entry = fields.entry(i);
    if (dropped.contains(entry.id) || entry.nominated) continue;
    const http1::Field field = fields[i];
    add(field.name, field.value, kSecret.contains(entry.id));
  }
}

void FieldList::add_lines(std::string_view lines) {
  while (!lines.empty()) {
    const std::size_t end = lines.find("\r\n");
    const std::string_view line = lines.substr(0, end);
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
      add(line.substr(0, colon), http1::trim_ows(line.substr(colon + 1)));
    }
    if (end == std::string_view::npos) return;
    lines.remove_prefix(end + 2);
  }
}

void response_fields(const http1::ResponseHead& head, const http1::ResponseForwarding& options,
                     FieldList& out) {
  // A switch of protocols is a 200 here (RFC 8441 section 5).
  out.add_status(head.switching() ? 200 : head.status());
  KnownFieldSet drop = options.remove;
  // As HTTP/1.1's forwarder (RFC 9110 section 8.6).
  if (head.status() < 200 || head.status() == 204 || options.recoded) {
    drop.add(KnownField::content_length);
  }
  out.add_all(head.fields(), drop);
  out.add_lines(options.lines);
}

void request_fields(const http1::RequestHead& head, const http1::RequestForwarding& options,
                    std::string_view scheme, std::string& path_memory, FieldList& out) {
  path_memory.assign(options.path.empty() ? head.path() : options.path);
  if (head.has_query()) path_memory.append("?").append(head.query());
  const bool extended = !head.upgrade().empty();  // RFC 8441 section 4
  out.add(":method", extended ? "CONNECT" : head.method_name());
  if (extended) out.add(":protocol", head.upgrade());
  out.add(":scheme", scheme);
  out.add(":authority", options.host.empty() ? head.authority() : options.host);
  out.add(":path", path_memory);
  KnownFieldSet drop = options.remove | KnownFieldSet(KnownField::host);
  if (!options.keep_expect) drop.add(KnownField::expect);
  out.add_all(head.fields(), drop);
  if (wants_trailers(head.fields())) out.add("te", "trailers");
  for (const http1::ExtraField& field : options.add)
    out.add(field.name, field.value);
  out.add_lines(options.lines);
}

}  // namespace sluice::gateway::http2
