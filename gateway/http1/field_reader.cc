#include "gateway/http1/field_reader.h"

#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {
namespace {

// Naming one of these in Connection does not take it away: they are meant for the other end, and a
// client that makes us drop them would change what the upstream decides (RFC 9110 section 7.6.1).
constexpr KnownFieldSet kNeverNominated{
    KnownField::age,
    KnownField::authorization,
    KnownField::cache_control,
    KnownField::content_encoding,
    KnownField::content_length,
    KnownField::content_range,
    KnownField::content_type,
    KnownField::cookie,
    KnownField::date,
    KnownField::etag,
    KnownField::expect,
    KnownField::expires,
    KnownField::forwarded,
    KnownField::host,
    KnownField::if_match,
    KnownField::if_modified_since,
    KnownField::if_none_match,
    KnownField::if_range,
    KnownField::if_unmodified_since,
    KnownField::location,
    KnownField::max_forwards,
    KnownField::origin,
    KnownField::proxy_authenticate,
    KnownField::proxy_authorization,
    KnownField::range,
    KnownField::referer,
    KnownField::set_cookie,
    KnownField::traceparent,
    KnownField::tracestate,
    KnownField::transfer_encoding,
    KnownField::vary,
    KnownField::via,
    KnownField::www_authenticate,
    KnownField::x_forwarded_for,
    KnownField::x_forwarded_host,
    KnownField::x_forwarded_port,
    KnownField::x_forwarded_prefix,
    KnownField::x_forwarded_proto,
    KnownField::x_forwarded_scheme,
    KnownField::x_forwarded_server,
    KnownField::x_forwarded_ssl,
    KnownField::x_real_ip,
    KnownField::x_request_id,
};

constexpr int kMaxNominations = 32;  // each costs a pass over the fields

std::size_t token_end(std::string_view line) {
  std::size_t end = 0;
  while (end < line.size() && is(line[end], kToken))
    ++end;
  return end;
}

ParseError name_error(std::string_view line, std::size_t at) {
  if (at == line.size()) return ParseError::missing_colon;
  return is_ows(line[at]) ? ParseError::space_before_colon : ParseError::bad_field_name;
}

// 1*DIGIT, one number: no sign, no list ("5, 5" is refused too). 19 digits fit 64 bits.
ParseError read_content_length(std::string_view value, FieldFacts& facts) {
  if (facts.has_content_length) return ParseError::duplicate_content_length;
  if (value.empty() || value.size() > 19) return ParseError::bad_content_length;
  std::uint64_t length = 0;
  for (char c : value) {
    if (!is(c, kDigit)) return ParseError::bad_content_length;
    length = length * 10 + static_cast<unsigned>(c - '0');
  }
  facts.content_length = length;
  facts.has_content_length = true;
  return ParseError::none;
}

// Only "chunked", once, is spoken here. Other codings are unknown (501) where the list is well
// formed and ends with chunked, so that the body's end is certain; all else may be read in two
// ways.
ParseError read_transfer_encoding(std::string_view value, FieldFacts& facts) {
  if (facts.has_transfer_encoding) return ParseError::bad_transfer_encoding;
  facts.has_transfer_encoding = true;
  if (equals_ignoring_case(value, "chunked")) return ParseError::none;
  int chunked = 0;
  bool chunked_last = false;
  const bool tokens = for_each_element(value, [&](std::string_view coding) {
    chunked_last = equals_ignoring_case(coding, "chunked");
    chunked += chunked_last ? 1 : 0;
    return !coding.empty() && all_are(coding, kToken);
  });
  if (!tokens || !chunked_last || chunked != 1) return ParseError::bad_transfer_encoding;
  return ParseError::unknown_transfer_coding;
}

void read_upgrade(std::string_view value, std::size_t index, bool first, FieldFacts& facts) {
  const bool safe = for_each_element(value, [](std::string_view protocol) {
    return !equals_ignoring_case(protocol, "h2c") && !equals_ignoring_case(protocol, "h2");
  });
  facts.upgrade = first && safe && !value.empty() ? static_cast<std::int16_t>(index) : -1;
}

ParseError read_known(KnownField id, std::string_view value, std::size_t index, bool first,
                      FieldFacts& facts) {
  switch (id) {
    case KnownField::content_length:
      return read_content_length(value, facts);
    case KnownField::transfer_encoding:
      return read_transfer_encoding(value, facts);
    case KnownField::host:
      facts.duplicate_host |= !first;
      facts.host = static_cast<std::int16_t>(index);
      return ParseError::none;
    case KnownField::upgrade:
      read_upgrade(value, index, first, facts);
      return ParseError::none;
    default:
      return ParseError::none;
  }
}

void nominate(std::string_view name, FieldTable& fields) {
  const KnownField id = known_field(name);
  if (kNeverNominated.contains(id)) return;
  if (id != KnownField::unknown && !fields.has(id)) return;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    FieldTable::Entry& entry = fields.entry(i);
    if (entry.id != id || entry.name_size != name.size()) continue;
    if (id != KnownField::unknown) {
      entry.nominated = true;
      continue;
    }
    const std::string_view candidate = fields[i].name;
    bool same = true;
    for (std::size_t k = 0; k < name.size() && same; ++k) {
      same = to_lower(candidate[k]) == to_lower(name[k]);
    }
    entry.nominated |= same;
  }
}

ParseError read_connection(FieldTable& fields, FieldFacts& facts) {
  int nominations = 0;
  const auto option = [&](std::string_view token) {
    if (token.empty()) return true;  // RFC 9110 section 5.6.1.2
    if (equals_ignoring_case(token, "keep-alive")) {
      facts.connection_keep_alive = true;
    } else if (equals_ignoring_case(token, "close")) {
      facts.connection_close = true;
    } else if (equals_ignoring_case(token, "upgrade")) {
      facts.connection_upgrade = true;
    } else {
      if (!all_are(token, kToken) || ++nominations > kMaxNominations) return false;
      nominate(token, fields);
    }
    return true;
  };
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (fields.entry(i).id != KnownField::connection) continue;
    if (!for_each_element(fields[i].value, option)) return ParseError::bad_connection;
  }
  return ParseError::none;
}

}  // namespace

ParseError read_fields(const char* base, FieldTable& fields, int minor_version, FieldFacts& facts) {
  fields.rebase(base);
  const std::size_t count = fields.size();
  for (std::size_t i = 0; i < count; ++i) {
    FieldTable::Entry& entry = fields.entry(i);
    const std::string_view line(base + entry.line_at, entry.value_size);
    const std::size_t colon = line.find(':');
    // A known name is a token.
    const KnownField id = known_field(line.substr(0, colon));
    if (id == KnownField::unknown || colon == std::string_view::npos) {
      const std::size_t end = token_end(line);
      if (end == 0 || end != colon) return name_error(line, end);
    }
    const std::string_view value = trim_ows(line.substr(colon + 1));
    entry.name_size = static_cast<std::uint16_t>(colon);
    entry.value_at = static_cast<std::uint16_t>(value.data() - base);
    entry.value_size = static_cast<std::uint16_t>(value.size());
    entry.id = id;
    entry.nominated = false;
    if (id == KnownField::unknown) continue;
    const bool first = !fields.has(id);
    fields.mark_present(id);
    if (const ParseError error = read_known(id, value, i, first, facts);
        error != ParseError::none) {
      return error;
    }
  }
  if (facts.has_transfer_encoding) {
    if (minor_version == 0) return ParseError::transfer_encoding_in_http10;
    if (facts.has_content_length) return ParseError::content_length_with_transfer_encoding;
  }
  return fields.has(KnownField::connection) ? read_connection(fields, facts) : ParseError::none;
}

}  // namespace sluice::gateway::http1
