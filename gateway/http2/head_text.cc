#include "gateway/http2/head_text.h"

#include <algorithm>

#include "gateway/http/own_answer.h"
#include "gateway/http1/chunked.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::http2 {
namespace {

constexpr std::size_t kFieldOverhead = 32;  // RFC 9113 section 6.5.2

bool good_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return http1::is(c, http1::kToken) && (c < 'A' || c > 'Z');
  });
}

bool good_value(std::string_view value) {
  if (value.empty()) return true;
  if (http1::is_ows(value.front()) || http1::is_ows(value.back())) return false;
  return std::ranges::none_of(value, [](char c) {
    const auto octet = static_cast<unsigned char>(c);
    return (octet < 0x20 && octet != '\t') || octet == 0x7f;
  });
}

bool is_hop_by_hop(std::string_view name, std::string_view value) {
  if (name == "te") return value != "trailers";
  return name == "connection" || name == "keep-alive" || name == "proxy-connection" ||
         name == "transfer-encoding" || name == "upgrade" || name == "http2-settings";
}

// Not a byte that could end the word or the line that it is put into.
bool is_word(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

std::string_view reason(HeadError error) {
  switch (error) {
    case HeadError::none:
      break;
    case HeadError::bad_pseudo:
      return "malformed pseudo-header fields";
    case HeadError::bad_name:
      return "malformed field name";
    case HeadError::bad_value:
      return "malformed field value";
    case HeadError::hop_by_hop:
      return "connection-specific field in HTTP/2";
    case HeadError::bad_path:
      return "malformed :path";
    case HeadError::bad_scheme:
      return "unknown :scheme";
    case HeadError::bad_authority:
      return "malformed :authority, or other than Host";
    case HeadError::too_large:
      return "head too large";
  }
  return "";
}

void HeadText::reset() {
  text_.clear();
  fields_.clear();
  cookie_.clear();
  host_.clear();
  method_.clear();
  path_.clear();
  authority_.clear();
  protocol_.clear();
  list_size_ = 0;
  status_ = 0;
  seen_ = 0;
  regular_seen_ = has_host_ = has_length_ = trailers_ = false;
  error_ = HeadError::none;
}

void HeadText::add(std::string_view name, std::string_view value) {
  list_size_ += name.size() + value.size() + kFieldOverhead;
  if (list_size_ > kMaxSize) fail(HeadError::too_large);
  if (error_ != HeadError::none) return;
  if (name.starts_with(':')) {
    add_pseudo(name, value);
  } else {
    regular_seen_ = true;
    add_field(name, value);
  }
}

void HeadText::add_pseudo(std::string_view name, std::string_view value) {
  struct Known {
    std::string_view name;
    Pseudo id;
  };
  constexpr Known kKnown[] = {{":method", kMethod},     {":scheme", kScheme},
                              {":path", kPath},         {":authority", kAuthority},
                              {":protocol", kProtocol}, {":status", kStatus}};
  const auto* known = std::ranges::find(kKnown, name, &Known::name);
  if (known == std::end(kKnown)) return fail(HeadError::bad_pseudo);
  const auto bit = static_cast<std::uint8_t>(1u << known->id);
  if (regular_seen_ || (seen_ & bit) != 0) return fail(HeadError::bad_pseudo);
  seen_ |= bit;
  switch (known->id) {
    case kMethod:
      if (value.empty() || !http1::all_are(value, http1::kToken)) fail(HeadError::bad_pseudo);
      method_.assign(value);
      return;
    case kScheme:
      if (value != "http" && value != "https") fail(HeadError::bad_scheme);
      return;
    case kPath:
      path_.assign(value);
      return;
    case kAuthority:
      if (!is_word(value)) fail(HeadError::bad_authority);
      authority_.assign(value);
      return;
    case kProtocol:
      if (value.empty() || !http1::all_are(value, http1::kToken)) fail(HeadError::bad_pseudo);
      protocol_.assign(value);
      return;
    case kStatus:
      if (value.size() != 3 || !http1::all_are(value, http1::kDigit)) {
        return fail(HeadError::bad_pseudo);
      }
      status_ = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
      return;
    case kPseudos:
      return;
  }
}

void HeadText::add_field(std::string_view name, std::string_view value) {
  if (!good_name(name)) return fail(HeadError::bad_name);
  if (!good_value(value)) return fail(HeadError::bad_value);
  if (is_hop_by_hop(name, value)) return fail(HeadError::hop_by_hop);
  if (trailers_) {
    if (http1::may_be_trailer(name)) line(name, value);
    return;
  }
  if (name == "cookie" && status_ == 0) {
    if (!cookie_.empty()) cookie_.append("; ");
    cookie_.append(value);
    return;
  }
  if (name == "host") {
    if (has_host_) return fail(HeadError::bad_authority);
    has_host_ = true;
    host_.assign(value);
    return;
  }
  has_length_ |= name == "content-length";
  line(name, value);
}

void HeadText::line(std::string_view name, std::string_view value) {
  fields_.append(name).append(": ").append(value).append("\r\n");
}

bool HeadText::is_connect() const {
  return method_ == "CONNECT";
}

HeadError HeadText::check_request() {
  const auto seen = [this](Pseudo id) { return (seen_ & (1u << id)) != 0; };
  if (!seen(kMethod) || seen(kStatus)) return HeadError::bad_pseudo;
  if (seen(kProtocol)) {  // RFC 8441 section 4
    if (!is_connect() || !seen(kScheme) || !seen(kPath) || !seen(kAuthority)) {
      return HeadError::bad_pseudo;
    }
  } else if (is_connect()) {
    if (seen(kScheme) || seen(kPath) || !seen(kAuthority)) return HeadError::bad_pseudo;
    return HeadError::none;
  } else if (!seen(kScheme) || !seen(kPath)) {
    return HeadError::bad_pseudo;
  }
  const bool asterisk = path_ == "*" && method_ == "OPTIONS";
  if (!asterisk && (path_.empty() || path_[0] != '/' || !is_word(path_))) {
    return HeadError::bad_path;
  }
  if (has_host_ && !is_word(host_)) return HeadError::bad_authority;
  if (seen(kAuthority) && has_host_ &&
      !std::ranges::equal(authority_, host_, {}, http1::to_lower, http1::to_lower)) {
    return HeadError::bad_authority;
  }
  if (!seen(kAuthority) && !has_host_) return HeadError::bad_authority;
  return HeadError::none;
}

HeadError HeadText::finish_request(bool has_body) {
  if (error_ == HeadError::none) error_ = check_request();
  if (error_ != HeadError::none) return error_;
  const std::string& authority = authority_.empty() ? host_ : authority_;
  const bool extended = !protocol_.empty();
  text_.assign(extended ? "GET" : method_).append(" ");
  text_.append(is_connect() && !extended ? authority_ : path_).append(" HTTP/1.1\r\n");
  text_.append("host: ").append(authority).append("\r\n").append(fields_);
  if (!cookie_.empty()) text_.append("cookie: ").append(cookie_).append("\r\n");
  if (extended) {
    text_.append("connection: upgrade\r\nupgrade: ").append(protocol_).append("\r\n");
  } else if (has_body && !has_length_ && !is_connect()) {
    text_.append("transfer-encoding: chunked\r\n");  // its length is not known
  }
  text_.append("\r\n");
  return HeadError::none;
}

HeadError HeadText::finish_response(bool has_body, bool to_head) {
  if (error_ == HeadError::none && (seen_ != 1u << kStatus || status_ < 100)) {
    error_ = HeadError::bad_pseudo;
  }
  // 101 does not exist in HTTP/2 (RFC 9113 section 8.6).
  if (error_ == HeadError::none && status_ == 101) error_ = HeadError::bad_pseudo;
  if (error_ != HeadError::none) return error_;
  if (!upgrade_.empty() && status_ >= 200 && status_ < 300) {
    text_.assign("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ").append(upgrade_);
    text_.append("\r\n").append(fields_).append("\r\n");
    return HeadError::none;
  }
  text_.assign("HTTP/1.1 ");
  text_.push_back(static_cast<char>('0' + status_ / 100));
  text_.push_back(static_cast<char>('0' + status_ / 10 % 10));
  text_.push_back(static_cast<char>('0' + status_ % 10));
  // HTTP/2 has none; people and old clients look for one.
  text_.append(" ").append(http::reason_phrase(status_)).append("\r\n").append(fields_);
  const bool may_have_body = status_ >= 200 && status_ != 204 && status_ != 304;
  if (may_have_body && !to_head && !has_length_) {
    text_.append(has_body ? "transfer-encoding: chunked\r\n" : "content-length: 0\r\n");
  }
  text_.append("\r\n");
  return HeadError::none;
}

HeadError HeadText::finish_trailers() {
  if (error_ == HeadError::none) text_.assign(fields_);
  return error_;
}

}  // namespace sluice::gateway::http2
