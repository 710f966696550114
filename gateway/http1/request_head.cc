#include <algorithm>

#include "gateway/http1/field_reader.h"
#include "gateway/http1/head.h"
#include "gateway/http1/octets.h"
#include "gateway/http1/path_scan.h"

namespace sluice::gateway::http1 {
namespace {

Method method_of(std::string_view name) {
  switch (name.size()) {
    case 3:
      if (name == "GET") return Method::get;
      return name == "PUT" ? Method::put : Method::other;
    case 4:
      if (name == "POST") return Method::post;
      return name == "HEAD" ? Method::head : Method::other;
    case 5:
      if (name == "PATCH") return Method::patch;
      return name == "TRACE" ? Method::trace : Method::other;
    case 6:
      return name == "DELETE" ? Method::del : Method::other;
    case 7:
      if (name == "OPTIONS") return Method::options;
      return name == "CONNECT" ? Method::connect : Method::other;
    default:
      return Method::other;
  }
}

// The version of a start line that is not HTTP/1.0 or 1.1.
ParseError version_error(std::string_view version) {
  const bool well_formed = version.size() == 8 && version.starts_with("HTTP/") &&
                           is(version[5], kDigit) && version[6] == '.' && is(version[7], kDigit);
  return well_formed ? ParseError::unsupported_version : ParseError::bad_version;
}

}  // namespace

bool is_idempotent(Method method) {
  switch (method) {
    case Method::get:
    case Method::head:
    case Method::put:
    case Method::del:
    case Method::options:
    case Method::trace:
      return true;
    case Method::other:
    case Method::post:
    case Method::connect:
    case Method::patch:
      return false;
  }
  return false;
}

// Reads a head whose lines are known. Lives for one call.
class RequestReader {
 public:
  RequestReader(const char* base, RequestHead& head) : base_(base), head_(head) {}

  ParseError read(std::string_view line) {
    if (const ParseError error = request_line(line); error != ParseError::none) return error;
    FieldFacts facts;
    if (const ParseError error = read_fields(base_, head_.fields_, head_.minor_version_, facts);
        error != ParseError::none) {
      return error;
    }
    if (const ParseError error = authority(facts); error != ParseError::none) return error;
    body_and_connection(facts);
    return ParseError::none;
  }

 private:
  HeadSlice slice(std::string_view part) const {
    return {static_cast<std::uint16_t>(part.data() - base_),
            static_cast<std::uint16_t>(part.size())};
  }

  ParseError request_line(std::string_view line) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return ParseError::bad_request_line;
    const std::string_view method = line.substr(0, space);
    if (method.empty() || !all_are(method, kToken)) return ParseError::bad_method;
    head_.method_name_ = slice(method);
    head_.method_ = method_of(method);

    const std::size_t second = line.rfind(' ');
    if (second <= space + 1) return ParseError::bad_request_line;
    const std::string_view version = line.substr(second + 1);
    if (version == "HTTP/1.1") {
      head_.minor_version_ = 1;
    } else if (version == "HTTP/1.0") {
      head_.minor_version_ = 0;
    } else {
      return version_error(version);
    }
    const std::string_view target = line.substr(space + 1, second - space - 1);
    head_.target_ = slice(target);
    return read_target(target);
  }

  ParseError read_target(std::string_view target) {
    head_.authority_ = head_.host_ = head_.path_ = head_.query_ = {};
    head_.port_ = 0;
    head_.has_query_ = false;
    if (head_.method_ == Method::connect) {
      head_.form_ = TargetForm::authority;
      head_.path_is_normal_ = true;
      const ParseError error = take_authority(target);
      if (error != ParseError::none || head_.port_ == 0) return ParseError::bad_target_form;
      return ParseError::none;
    }
    if (target.front() == '/') {
      head_.form_ = TargetForm::origin;
      return path_and_query(target);
    }
    if (target == "*") {
      head_.form_ = TargetForm::asterisk;
      head_.path_ = slice(target);
      head_.path_is_normal_ = true;
      return head_.method_ == Method::options ? ParseError::none : ParseError::bad_target_form;
    }
    return absolute_target(target);
  }

  ParseError absolute_target(std::string_view target) {
    head_.form_ = TargetForm::absolute;
    const std::size_t colon = target.find("://");
    if (colon == std::string_view::npos) return ParseError::bad_target_form;
    const std::string_view scheme = target.substr(0, colon);
    if (!equals_ignoring_case(scheme, "http") && !equals_ignoring_case(scheme, "https")) {
      return ParseError::bad_target_form;
    }
    const std::string_view rest = target.substr(colon + 3);
    const std::size_t end = std::min(rest.find_first_of("/?#"), rest.size());
    if (const ParseError error = take_authority(rest.substr(0, end)); error != ParseError::none) {
      return error;
    }
    return path_and_query(rest.substr(end));
  }

  ParseError path_and_query(std::string_view text) {
    const PathScan scan = scan_path(text);
    if (!scan.valid) return ParseError::bad_target;
    head_.path_ = slice(text.substr(0, scan.size));
    head_.path_is_normal_ = scan.normal;
    if (scan.size == text.size()) return ParseError::none;
    head_.has_query_ = true;
    const std::string_view query = text.substr(scan.size + 1);
    head_.query_ = slice(query);
    return all_are(query, kQuery) ? ParseError::none : ParseError::bad_target;
  }

  ParseError take_authority(std::string_view text) {
    const std::optional<Authority> parsed = parse_authority(text);
    if (!parsed) return ParseError::bad_host;
    head_.authority_ = slice(text);
    head_.host_ = slice(parsed->host);
    head_.host_kind_ = parsed->kind;
    head_.port_ = parsed->port.value_or(0);
    return ParseError::none;
  }

  // Host exactly once and valid (RFC 9112 section 3.2), even where an absolute target overrides it
  // (3.2.2).
  ParseError authority(const FieldFacts& facts) {
    head_.host_overridden_ = false;
    if (facts.duplicate_host) return ParseError::duplicate_host;
    if (facts.host < 0) {
      head_.host_overridden_ = head_.form_ == TargetForm::absolute;
      return head_.minor_version_ == 0 ? ParseError::none : ParseError::missing_host;
    }
    const std::string_view host = head_.fields_[static_cast<std::size_t>(facts.host)].value;
    if (head_.form_ == TargetForm::origin || head_.form_ == TargetForm::asterisk) {
      return take_authority(host);
    }
    if (!parse_authority(host)) return ParseError::bad_host;
    head_.host_overridden_ =
        host != std::string_view(base_ + head_.authority_.at, head_.authority_.size);
    return ParseError::none;
  }

  void body_and_connection(const FieldFacts& facts) {
    const bool http11 = head_.minor_version_ == 1;
    head_.content_length_ = facts.content_length;
    head_.body_ = facts.has_transfer_encoding ? BodyKind::chunked
                  : facts.content_length != 0 ? BodyKind::length
                                              : BodyKind::none;
    head_.keep_alive_ = !facts.connection_close && (http11 || facts.connection_keep_alive);
    head_.expect_continue_ =
        http11 && head_.body_ != BodyKind::none && head_.fields_.has(KnownField::expect) &&
        equals_ignoring_case(head_.fields_.first(KnownField::expect), "100-continue");
    // A server may ignore Upgrade (RFC 9110 section 7.8); with a body it would be unclear where the
    // tunnel begins.
    const bool upgrade =
        http11 && facts.connection_upgrade && facts.upgrade >= 0 && head_.body_ == BodyKind::none;
    head_.upgrade_ =
        upgrade ? slice(head_.fields_[static_cast<std::size_t>(facts.upgrade)].value) : HeadSlice{};
  }

  const char* base_;
  RequestHead& head_;
};

std::string_view RequestHead::path() const {
  if (form_ == TargetForm::absolute && path_.size == 0) {
    // RFC 9112 section 3.2.4
    return method_ == Method::options && !has_query_ ? "*" : "/";
  }
  return view(path_);
}

Progress RequestParser::parse(std::string_view in, RequestHead& head) {
  if (scanner_.untouched()) head.fields_.clear();
  const Progress progress = scanner_.scan(in, limits_, HeadKind::request, head.fields_);
  if (progress != Progress::complete) return progress;
  head.rebase(in.data());
  head.size_ = scanner_.size();
  head.line_end_ = static_cast<std::uint16_t>(scanner_.first_at() + scanner_.first_size() + 2);
  const ParseError error =
      RequestReader(in.data(), head).read(in.substr(scanner_.first_at(), scanner_.first_size()));
  return error == ParseError::none ? Progress::complete : scanner_.fail(error);
}

}  // namespace sluice::gateway::http1
