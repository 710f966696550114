#include "gateway/http1/head_writer.h"

#include <array>
#include <charconv>

#include "gateway/http1/octets.h"
#include "gateway/http1/path_scan.h"

namespace sluice::gateway::http1 {
namespace {

constexpr HeadLimits kLimits;

// Places in what is too large are wrong: end() says so, and nobody reads them.
std::uint16_t place(std::size_t at) {
  return static_cast<std::uint16_t>(at);
}

HeadSlice slice(std::size_t at, std::size_t size) {
  return {place(at), place(size)};
}

}  // namespace

RequestWriter::RequestWriter(std::string& text, RequestHead& head) : text_(text), head_(head) {
  text_.clear();
  head_.fields_.clear();
  head_.form_ = TargetForm::origin;
  head_.minor_version_ = 1;
  head_.keep_alive_ = true;
  head_.host_overridden_ = head_.expect_continue_ = false;
  head_.upgrade_ = {};
}

void RequestWriter::method(const RequestHead& as) {
  head_.method_ = as.method();
  head_.method_name_ = slice(0, as.method_name().size());
  text_.append(as.method_name()).append(" ");
  target_at_ = text_.size();
}

void RequestWriter::host(std::string_view authority) {
  head_.target_ = slice(target_at_, text_.size() - target_at_);
  text_.append(" HTTP/1.1");
  good_ = text_.size() <= kLimits.max_request_line;
  text_.append("\r\n");
  head_.line_end_ = place(text_.size());
  head_.authority_ = slice(text_.size() + std::string_view("host: ").size(), authority.size());
  field("host", authority, KnownField::host);
}

void RequestWriter::field(std::string_view name, std::string_view value, KnownField id,
                          std::string_view before) {
  FieldTable& fields = head_.fields_;
  const std::size_t index = fields.size();
  const std::size_t line_at = text_.size();
  text_.append(name).append(": ").append(before).append(value).append("\r\n");
  good_ = good_ && index < kLimits.max_fields && text_.size() < kLimits.max_bytes;
  if (!good_) return;
  fields.entry(index) = {place(line_at),
                         place(name.size()),
                         place(line_at + name.size() + 2),
                         place(before.size() + value.size()),
                         id,
                         false};
  fields.resize(index + 1);
  if (id != KnownField::unknown) fields.mark_present(id);
}

bool RequestWriter::end(std::uint64_t body_size) {
  head_.content_length_ = body_size;
  head_.body_ = body_size > 0 ? BodyKind::length : BodyKind::none;
  if (body_size > 0) {
    std::array<char, 20> digits;
    const char* const end =
        std::to_chars(digits.data(), digits.data() + digits.size(), body_size).ptr;
    field("content-length", {digits.data(), end}, KnownField::content_length);
  }
  text_.append("\r\n");
  head_.size_ = place(text_.size());
  head_.rebase(text_.data());
  return good_ && text_.size() <= kLimits.max_bytes && read_target();
}

bool RequestWriter::read_target() {
  const std::string_view target = head_.target();
  const PathScan scan = scan_path(target);
  if (!target.starts_with('/') || !scan.valid) return false;
  head_.path_ = slice(target_at_, scan.size);
  head_.path_is_normal_ = scan.normal;
  head_.has_query_ = scan.size < target.size();
  head_.query_ = {};
  if (head_.has_query_) {
    head_.query_ = slice(target_at_ + scan.size + 1, target.size() - scan.size - 1);
    if (!all_are(head_.query(), kQuery)) return false;
  }
  const auto authority = parse_authority(head_.authority());
  if (!authority) return false;
  head_.host_ = slice(static_cast<std::size_t>(authority->host.data() - text_.data()),
                      authority->host.size());
  head_.host_kind_ = authority->kind;
  head_.port_ = authority->port.value_or(0);
  return true;
}

class OwnResponseReader {
 public:
  OwnResponseReader(std::string_view text, ResponseHead& head) : text_(text), head_(head) {}

  bool read() {
    if (text_.size() > kLimits.max_bytes || !status_line()) return false;
    head_.fields_.clear();
    head_.fields_.rebase(text_.data());
    while (at_ < text_.size() && text_[at_] != '\r')
      if (!field()) return false;
    head_.size_ = place(at_ + 2);
    head_.rebase(text_.data());
    return at_ + 2 == text_.size() && body();
  }

 private:
  bool status_line() {
    constexpr std::size_t kCodeAt = 9;
    constexpr std::size_t kReasonAt = 13;
    const std::size_t end = text_.find('\r');
    if (end == std::string_view::npos || end < kReasonAt) return false;
    std::from_chars(text_.data() + kCodeAt, text_.data() + kReasonAt - 1, head_.status_);
    head_.minor_version_ = 1;
    head_.reason_ = slice(kReasonAt, end - kReasonAt);
    head_.line_at_ = 0;
    at_ = end + 2;
    head_.line_end_ = place(at_);
    return true;
  }

  bool field() {
    FieldTable& fields = head_.fields_;
    const std::size_t index = fields.size();
    const std::size_t colon = text_.find(':', at_);
    const std::size_t end = text_.find('\r', at_);
    if (end == std::string_view::npos || colon >= end || end - colon < 2) return false;
    if (index == kLimits.max_fields) return false;
    const KnownField id = known_field(text_.substr(at_, colon - at_));
    fields.entry(index) = {
        place(at_), place(colon - at_), place(colon + 2), place(end - colon - 2), id, false};
    fields.resize(index + 1);
    if (id != KnownField::unknown) fields.mark_present(id);
    at_ = end + 2;
    return true;
  }

  // RFC 9112 section 6.3
  bool body() {
    const bool chunked = head_.fields_.has(KnownField::transfer_encoding);
    const std::string_view length = head_.fields_.first(KnownField::content_length);
    head_.content_length_ = 0;
    std::from_chars(length.data(), length.data() + length.size(), head_.content_length_);
    head_.body_ = chunked                     ? BodyKind::chunked
                  : length.empty()            ? BodyKind::until_close
                  : head_.content_length_ > 0 ? BodyKind::length
                                              : BodyKind::none;
    if (head_.status_ == 204 && (chunked || head_.content_length_ > 0)) return false;
    if (head_.status_ == 204 || head_.status_ == 304) {
      head_.body_ = BodyKind::none;
      head_.content_length_ = 0;
    }
    head_.keep_alive_ = head_.body_ != BodyKind::until_close;
    return head_.status_ >= 200;
  }

  std::string_view text_;
  ResponseHead& head_;
  std::size_t at_ = 0;
};

bool read_own_response(std::string_view text, ResponseHead& head) {
  return OwnResponseReader(text, head).read();
}

}  // namespace sluice::gateway::http1
