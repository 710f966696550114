// A head that came as HTTP/2 fields, written down as HTTP/1.1 would say it, so that one parser and
// one set of refusals serve both, and so that what goes to an HTTP/1.1 side is these bytes. Pure.
//
// What HTTP/1.1 cannot say is refused here (RFC 9113 section 8.2 and 8.3, and section 10.3: a value
// with CR, LF or NUL would become another line): the rest is the parser's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::gateway::http2 {

enum class HeadError : std::uint8_t {
  none,
  bad_pseudo,     // unknown, twice, missing, or after a regular field
  bad_name,       // upper case, or not a token
  bad_value,      // CR, LF, NUL, other controls, or white space around it
  hop_by_hop,     // connection-specific fields (RFC 9113 section 8.2.2)
  bad_path,       // not "/…", and not "*" for OPTIONS
  bad_scheme,     // not http or https
  bad_authority,  // differs from Host, or is empty
  too_large,
};
std::string_view reason(HeadError error);

class HeadText {
 public:
  static constexpr std::size_t kMaxSize = 32 * 1024;  // as SETTINGS_MAX_HEADER_LIST_SIZE counts

  void reset();
  // The fields that follow are trailers.
  void reset_for_trailers() {
    reset();
    trailers_ = regular_seen_ = true;
  }
  // In the order of arrival. After the first error nothing more is kept.
  void add(std::string_view name, std::string_view value);

  HeadError error() const { return error_; }
  std::size_t list_size() const { return list_size_; }  // what was added, kept or not

  // No more fields. `has_body`: the head did not end the message. Then text() is the whole head.
  HeadError finish_request(bool has_body);
  // `to_head`: the request was HEAD, whose answer has no body whatever its fields say.
  HeadError finish_response(bool has_body, bool to_head);
  // The request was an extended CONNECT for this protocol (RFC 8441): a 2xx answer is written down
  // as a 101. "": it was not. Stays over reset().
  void set_upgrade(std::string_view protocol) { upgrade_.assign(protocol); }
  std::string_view text() const { return text_; }
  // Of an extended CONNECT (RFC 8441): "websocket"; it is written down as an Upgrade.
  std::string_view protocol() const { return protocol_; }
  int status() const { return status_; }

  // text() is field lines with their CRLF, without those that must not come late.
  HeadError finish_trailers();

 private:
  enum Pseudo : std::uint8_t { kMethod, kScheme, kPath, kAuthority, kProtocol, kStatus, kPseudos };

  void add_pseudo(std::string_view name, std::string_view value);
  void add_field(std::string_view name, std::string_view value);
  void fail(HeadError error) {
    if (error_ == HeadError::none) error_ = error;
  }
  HeadError check_request();
  bool is_connect() const;
  void line(std::string_view name, std::string_view value);

  std::string text_;
  std::string fields_;
  std::string cookie_;  // its crumbs put together (RFC 9113 section 8.2.3)
  std::string host_;
  std::string method_, path_, authority_, protocol_;
  std::string upgrade_;
  std::size_t list_size_ = 0;
  int status_ = 0;
  std::uint8_t seen_ = 0;  // bits of Pseudo
  bool regular_seen_ = false;
  bool has_host_ = false;
  bool has_length_ = false;
  bool trailers_ = false;
  HeadError error_ = HeadError::none;
};

}  // namespace sluice::gateway::http2
