#include "gateway/http1/field_reader.h"
#include "gateway/http1/head.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {

// Reads a head whose lines are known. Lives for one call.
class ResponseReader {
 public:
  ResponseReader(const char* base, const ResponseContext& context, ResponseHead& head)
      : base_(base), context_(context), head_(head) {}

  ParseError read(std::string_view line) {
    if (const ParseError error = status_line(line); error != ParseError::none) return error;
    FieldFacts facts;
    if (const ParseError error = read_fields(base_, head_.fields_, head_.minor_version_, facts);
        error != ParseError::none) {
      return error;
    }
    if (const ParseError error = body(facts); error != ParseError::none) return error;
    if (head_.switching() &&
        (!context_.upgrade_offered || head_.minor_version_ == 0 || facts.upgrade < 0)) {
      return ParseError::unexpected_upgrade;
    }
    head_.keep_alive_ = !facts.connection_close && head_.body_ != BodyKind::until_close &&
                        !head_.switching() &&
                        (head_.minor_version_ == 1 || facts.connection_keep_alive);
    return ParseError::none;
  }

 private:
  // HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112 section 4). The second space may be
  // missing where there is no phrase: common, and read by everybody in the same way.
  ParseError status_line(std::string_view line) {
    if (!line.starts_with("HTTP/")) return ParseError::bad_status_line;
    if (!line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.0 ")) {
      return line.size() > 8 && line[8] == ' ' ? ParseError::unsupported_version
                                               : ParseError::bad_status_line;
    }
    head_.minor_version_ = line[7] == '1' ? 1 : 0;
    const std::string_view code = line.substr(9, 3);
    if (code.size() != 3 || !all_are(code, kDigit) || code[0] == '0') {
      return ParseError::bad_status_line;
    }
    head_.status_ =
        static_cast<std::uint16_t>((code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0'));
    head_.reason_ = {};
    if (line.size() == 12) return ParseError::none;
    if (line[12] != ' ') return ParseError::bad_status_line;
    head_.reason_ = {static_cast<std::uint16_t>(line.data() + 13 - base_),
                     static_cast<std::uint16_t>(line.size() - 13)};
    return ParseError::none;
  }

  // RFC 9112 section 6.3
  ParseError body(const FieldFacts& facts) {
    head_.content_length_ = 0;
    head_.body_ = BodyKind::none;
    if (head_.status_ < 200 || head_.status_ == 204) {
      // An origin that announces one may well send it: then it would stand where the next head is
      // looked for.
      return facts.has_transfer_encoding || facts.content_length != 0 ? ParseError::body_not_allowed
                                                                      : ParseError::none;
    }
    if (context_.request_method == Method::head || head_.status_ == 304) return ParseError::none;
    if (facts.has_transfer_encoding) {
      head_.body_ = BodyKind::chunked;
    } else if (!facts.has_content_length) {
      head_.body_ = BodyKind::until_close;
    } else if (facts.content_length != 0) {
      head_.body_ = BodyKind::length;
      head_.content_length_ = facts.content_length;
    }
    return ParseError::none;
  }

  const char* base_;
  const ResponseContext& context_;
  ResponseHead& head_;
};

Progress ResponseParser::parse(std::string_view in, const ResponseContext& context,
                               ResponseHead& head) {
  if (scanner_.untouched()) head.fields_.clear();
  const Progress progress = scanner_.scan(in, limits_, HeadKind::response, head.fields_);
  if (progress != Progress::complete) return progress;
  head.rebase(in.data());
  head.size_ = scanner_.size();
  head.line_at_ = scanner_.first_at();
  head.line_end_ = static_cast<std::uint16_t>(scanner_.first_at() + scanner_.first_size() + 2);
  const ParseError error = ResponseReader(in.data(), context, head)
                               .read(in.substr(scanner_.first_at(), scanner_.first_size()));
  return error == ParseError::none ? Progress::complete : scanner_.fail(error);
}

}  // namespace sluice::gateway::http1
