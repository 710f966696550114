// Request and response heads of HTTP/1.1 (RFC 9110, RFC 9112): in place, without copies or
// allocation, refusing what could be read in two ways. No I/O, no state but the parser's own; one
// thread at a time.
//
//   RequestParser parser;  RequestHead head;
//   switch (parser.parse({buffer, filled}, head)) {   // call again when more has come
//     case Progress::need_more: …  case Progress::failed: parser.error() …
//     case Progress::complete: head.path(), head.size() …   // the body begins at buffer +
//     head.size()
//   }
//   parser.reset();                                   // before the next message
//
// Heads hold offsets from the first byte given to `parse`. If the bytes move afterwards, call
// `rebase`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gateway/http1/field.h"
#include "gateway/http1/line_scanner.h"
#include "gateway/http1/parse_error.h"
#include "gateway/http1/target.h"

namespace sluice::gateway::http1 {

enum class Method : std::uint8_t {
  other,  // a valid token that is none of these
  get,
  head,
  post,
  put,
  del,
  connect,
  options,
  trace,
  patch,
};

// RFC 9110 section 9.2.2: may be sent again when nobody knows whether it was received.
bool is_idempotent(Method method);

enum class BodyKind : std::uint8_t {
  none,
  length,       // content_length() bytes, at least one
  chunked,      // see chunked.h
  until_close,  // responses only
};

// A part of the head by its place.
struct HeadSlice {
  std::uint16_t at = 0;
  std::uint16_t size = 0;
};

class RequestHead {
 public:
  Method method() const { return method_; }
  std::string_view method_name() const { return view(method_name_); }
  std::string_view target() const { return view(target_); }  // as received
  TargetForm form() const { return form_; }

  // As received, not normalised: pass it through normalise_path before anything is decided by it.
  // "/" where an absolute target has no path, "*" for OPTIONS *, "" for CONNECT.
  std::string_view path() const;
  bool path_is_normal() const {
    return path_is_normal_;
  }  // normalise_path would return it unchanged
  // Without the "?"; has_query tells "/a?" from "/a".
  std::string_view query() const { return view(query_); }
  bool has_query() const { return has_query_; }

  // The effective authority (RFC 9112 section 3.3): the target's if it is absolute (or CONNECT's),
  // else Host. As received, syntax checked. All empty only for HTTP/1.0 without Host.
  std::string_view authority() const { return view(authority_); }
  std::string_view host() const {
    return view(host_);
  }  // no port, no brackets, any case: see policy/host.h
  HostKind host_kind() const { return host_kind_; }
  std::optional<std::uint16_t> port() const {
    return port_ != 0 ? std::optional(port_) : std::nullopt;
  }
  // An absolute target whose authority is not what Host says: Host was ignored and must be replaced
  // (forward.h does).
  bool host_overridden() const { return host_overridden_; }

  std::uint8_t minor_version() const { return minor_version_; }  // 0 or 1
  const FieldTable& fields() const { return fields_; }
  FieldTable& fields() { return fields_; }

  BodyKind body() const { return body_; }                           // never until_close
  std::uint64_t content_length() const { return content_length_; }  // 0 unless body() is `length`
  bool keep_alive() const { return keep_alive_; }  // the client allows another request
  bool expect_continue() const {
    return expect_continue_;
  }  // waits for 100 before it sends the body
  // The Upgrade field's value where an upgrade is offered that we pass on: HTTP/1.1, nominated by
  // Connection, no body, no `h2c` in it. "" otherwise: then treat the request as one without it.
  std::string_view upgrade() const { return view(upgrade_); }

  // Bytes from the first given to `parse` to the head's end, a tolerated leading empty line
  // included.
  std::size_t size() const { return size_; }
  std::string_view bytes() const { return {base_, size_}; }
  void rebase(const char* base) {
    base_ = base;
    fields_.rebase(base);
  }

 private:
  friend class RequestParser;
  friend class RequestReader;
  friend class RequestForwarder;
  friend class RequestWriter;
  std::string_view view(HeadSlice slice) const { return {base_ + slice.at, slice.size}; }

  const char* base_ = nullptr;
  std::uint64_t content_length_ = 0;
  HeadSlice method_name_, target_, path_, query_, authority_, host_, upgrade_;
  std::uint16_t size_ = 0;
  std::uint16_t line_end_ = 0;  // of the request line, past its CRLF
  std::uint16_t port_ = 0;
  Method method_ = Method::other;
  TargetForm form_ = TargetForm::origin;
  HostKind host_kind_ = HostKind::name;
  BodyKind body_ = BodyKind::none;
  std::uint8_t minor_version_ = 1;
  bool path_is_normal_ = false;
  bool has_query_ = false;
  bool host_overridden_ = false;
  bool keep_alive_ = false;
  bool expect_continue_ = false;
  FieldTable fields_;
};

// What the answer to a request may be depends on the request (RFC 9112 section 6.3).
struct ResponseContext {
  Method request_method = Method::get;
  bool upgrade_offered = false;  // RequestHead::upgrade() was not empty and was forwarded
};

class ResponseHead {
 public:
  std::uint16_t status() const { return status_; }  // 100 to 999
  std::string_view reason() const { return view(reason_); }
  std::uint8_t minor_version() const { return minor_version_; }
  const FieldTable& fields() const { return fields_; }
  FieldTable& fields() { return fields_; }

  BodyKind body() const { return body_; }
  std::uint64_t content_length() const { return content_length_; }
  // The connection may carry another exchange once this message has ended (never with until_close
  // or 101).
  bool keep_alive() const { return keep_alive_; }
  // 100 to 199 but 101: another head follows on this connection. Count them: an origin may flood.
  bool interim() const { return status_ < 200 && status_ != 101; }
  // 101: from here on both sides are a tunnel.
  bool switching() const { return status_ == 101; }

  std::size_t size() const { return size_; }
  std::string_view bytes() const { return {base_, size_}; }  // from the first that was parsed
  void rebase(const char* base) {
    base_ = base;
    fields_.rebase(base);
  }

 private:
  friend class ResponseParser;
  friend class ResponseReader;
  friend class ResponseForwarder;
  friend class OwnResponseReader;
  std::string_view view(HeadSlice slice) const { return {base_ + slice.at, slice.size}; }

  const char* base_ = nullptr;
  std::uint64_t content_length_ = 0;
  HeadSlice reason_;
  std::uint16_t size_ = 0;
  std::uint16_t line_at_ = 0;
  std::uint16_t line_end_ = 0;
  std::uint16_t status_ = 0;
  BodyKind body_ = BodyKind::none;
  std::uint8_t minor_version_ = 1;
  bool keep_alive_ = false;
  FieldTable fields_;
};

class RequestParser {
 public:
  explicit RequestParser(HeadLimits limits = {}) : limits_(limits) {}

  // `in` is everything received of this message so far (it may go on past the head), at whatever
  // address. Only bytes that were not there last time are scanned. `head` must be the same object
  // until the head is complete; it is valid then only. After `failed`, answer status(error()) and
  // close.
  Progress parse(std::string_view in, RequestHead& head);
  ParseError error() const { return scanner_.error(); }
  void reset() { scanner_.reset(); }

 private:
  HeadLimits limits_;
  LineScanner scanner_;
};

class ResponseParser {
 public:
  explicit ResponseParser(HeadLimits limits = {}) : limits_(limits) {}

  // As RequestParser::parse. After `interim`, call reset() and go on behind head.size().
  Progress parse(std::string_view in, const ResponseContext& context, ResponseHead& head);
  ParseError error() const { return scanner_.error(); }
  void reset() { scanner_.reset(); }

 private:
  HeadLimits limits_;
  LineScanner scanner_;
};

}  // namespace sluice::gateway::http1
