#include "gateway/http1/forward.h"

#include <algorithm>
#include <cstring>

#include "gateway/http1/field_reader.h"
#include "gateway/http1/octets.h"

namespace sluice::gateway::http1 {
namespace {

// Copying so little costs less than another slice does in the kernel.
constexpr std::size_t kCopyBelow = 96;

void put_field(std::string_view name, std::string_view value, OutgoingHead& out) {
  if (value.size() < kCopyBelow && out.copy_field(name, value)) return;
  out.copy(name);
  out.copy(": ");
  out.refer(value);
  out.copy("\r\n");
}

// Everything that both directions say at the end of a head.
void put_extras(std::span<const ExtraField> extras, OutgoingHead& out) {
  for (const ExtraField& field : extras)
    put_field(field.name, field.value, out);
}

}  // namespace

void OutgoingHead::refer(std::string_view bytes) {
  if (bytes.empty()) return;
  if (count_ != 0) {
    iovec& last = slices_[count_ - 1];
    const char* last_end = static_cast<const char*>(last.iov_base) + last.iov_len;
    const bool fits = used_ + bytes.size() <= scratch_.size();
    if (last_end == bytes.data()) {
      last.iov_len += bytes.size();
      bytes_ += bytes.size();
      return;
    }
    // The last slice stays free for what has to be copied.
    if (fits && (count_ + 1 >= kMaxSlices ||
                 (bytes.size() < kCopyBelow && last_end == scratch_.data() + used_))) {
      return copy(bytes);
    }
  }
  if (count_ == kMaxSlices) {
    overflowed_ = true;
    return;
  }
  slices_[count_++] = {const_cast<char*>(bytes.data()), bytes.size()};
  bytes_ += bytes.size();
}

// Where the next copy goes continues the last slice.
bool OutgoingHead::extends() const {
  if (count_ == 0) return false;
  const iovec& last = slices_[count_ - 1];
  return static_cast<const char*>(last.iov_base) + last.iov_len == scratch_.data() + used_;
}

void OutgoingHead::take(std::size_t size) {
  char* const from = scratch_.data() + used_;
  if (extends()) {
    slices_[count_ - 1].iov_len += size;
  } else {
    slices_[count_++] = {from, size};
  }
  used_ += size;
  bytes_ += size;
}

void OutgoingHead::copy(std::string_view bytes) {
  if (bytes.empty()) return;
  if (!has_room(bytes.size())) {
    overflowed_ = true;
    return;
  }
  std::memcpy(scratch_.data() + used_, bytes.data(), bytes.size());
  take(bytes.size());
}

bool OutgoingHead::copy_field(std::string_view name, std::string_view value) {
  const std::size_t size = name.size() + value.size() + 4;
  if (!has_room(size)) return false;
  char* to = scratch_.data() + used_;
  to = std::ranges::copy(name, to).out;
  std::memcpy(to, ": ", 2);
  to = std::ranges::copy(value, to + 2).out;
  std::memcpy(to, "\r\n", 2);
  take(size);
  return true;
}

namespace {

// The field lines of a head but those in `drop` and the nominated ones; neighbours as one slice.
// Lines follow each other without gaps, so a line ends where the next begins, the last one before
// the empty line.
void put_kept_fields(const char* base, const FieldTable& fields, std::size_t head_size,
                     KnownFieldSet drop, OutgoingHead& out) {
  const std::size_t end = head_size - 2;
  const std::size_t count = fields.size();
  std::size_t run = end;  // where the lines that are kept begin; `end`: none
  for (std::size_t i = 0; i < count; ++i) {
    const FieldTable::Entry& entry = fields.entry(i);
    if (drop.contains(entry.id) || entry.nominated) {
      if (run != end) out.refer({base + run, entry.line_at - run});
      run = end;
    } else if (run == end) {
      run = entry.line_at;
    }
  }
  out.refer({base + run, end - run});
}

bool wants_trailers(const FieldTable& fields) {
  if (!fields.has(KnownField::te)) return false;
  for (const Field field : fields) {
    if (field.id != KnownField::te) continue;
    const bool absent = for_each_element(field.value, [](std::string_view coding) {
      return !equals_ignoring_case(coding, "trailers");
    });
    if (!absent) return true;
  }
  return false;
}

}  // namespace

class RequestForwarder {
 public:
  RequestForwarder(const RequestHead& head, const RequestForwarding& options, OutgoingHead& out)
      : head_(head), options_(options), out_(out) {}

  void build() {
    request_line();
    KnownFieldSet drop = kHopByHop | options_.remove;
    const std::string_view host = options_.host.empty() ? head_.authority() : options_.host;
    const bool has_host = head_.fields_.has(KnownField::host);
    const bool new_host =
        !has_host || head_.host_overridden_ ||
        (!options_.host.empty() && options_.host != head_.fields_.first(KnownField::host));
    if (new_host) {
      put_field("host", host, out_);
      drop.add(KnownField::host);
    }
    // HTTP/1.0 has no 100 to wait for (RFC 9110 section 10.1.1), but as 1.1 the origin would send
    // one.
    if (!options_.keep_expect || head_.minor_version_ == 0) drop.add(KnownField::expect);
    put_kept_fields(head_.base_, head_.fields_, head_.size_, drop, out_);
    connection_fields();
    put_extras(options_.add, out_);
    out_.refer(options_.lines);
    out_.copy("\r\n");
  }

 private:
  // Its own bytes where nothing changes; otherwise in origin form, with the path that was matched.
  void request_line() {
    const std::string_view path = options_.path.empty() ? head_.path() : options_.path;
    const bool same_path = path.data() == head_.path().data() && path.size() == head_.path().size();
    if (same_path && head_.minor_version_ == 1 && head_.form_ != TargetForm::absolute) {
      const char* begin = head_.base_ + head_.method_name_.at;
      out_.refer({begin, static_cast<std::size_t>(head_.base_ + head_.line_end_ - begin)});
      return;
    }
    out_.refer(head_.method_name());
    out_.copy(" ");
    out_.refer(path);
    if (head_.has_query_) {
      out_.copy("?");
      out_.refer(head_.query());
    }
    out_.copy(" HTTP/1.1\r\n");
  }

  void connection_fields() {
    const bool upgrade = head_.upgrade_.size != 0;
    const bool trailers = wants_trailers(head_.fields_);
    if (upgrade) put_field("upgrade", head_.upgrade(), out_);
    if (trailers) out_.copy("te: trailers\r\n");
    if (upgrade || trailers) {
      out_.copy(!trailers  ? "connection: upgrade\r\n"
                : !upgrade ? "connection: te\r\n"
                           : "connection: upgrade, te\r\n");
    }
  }

  const RequestHead& head_;
  const RequestForwarding& options_;
  OutgoingHead& out_;
};

class ResponseForwarder {
 public:
  ResponseForwarder(const ResponseHead& head, const ResponseForwarding& options, OutgoingHead& out)
      : head_(head), options_(options), out_(out) {}

  ForwardedResponse build() {
    const ForwardedResponse plan = decide();
    status_line();
    put_kept_fields(head_.base_, head_.fields_, head_.size_, dropped(), out_);
    if (plan.body == BodyRelay::enchunk) out_.copy("transfer-encoding: chunked\r\n");
    connection_fields(plan);
    put_extras(options_.add, out_);
    out_.refer(options_.lines);
    out_.copy("\r\n");
    return plan;
  }

 private:
  bool to_http10() const { return options_.client_minor_version == 0; }

  // 426 must say to which protocol (RFC 9110 section 15.5.22).
  bool keeps_upgrade() const {
    return head_.fields_.has(KnownField::upgrade) && (head_.switching() || head_.status_ == 426);
  }

  ForwardedResponse decide() const {
    ForwardedResponse plan;
    plan.close = !options_.client_keep_alive && !head_.interim() && !head_.switching();
    switch (head_.body_) {
      case BodyKind::none:
        break;
      case BodyKind::length:
        plan.body = options_.recoded ? BodyRelay::enchunk : BodyRelay::verbatim;
        break;
      case BodyKind::chunked:
        plan.body = to_http10() ? BodyRelay::dechunk : BodyRelay::verbatim;
        plan.close |= to_http10();
        break;
      case BodyKind::until_close:
        plan.body = to_http10() || plan.close ? BodyRelay::verbatim : BodyRelay::enchunk;
        plan.close |= to_http10();
        break;
    }
    return plan;
  }

  void status_line() {
    const std::string_view line(head_.base_ + head_.line_at_,
                                static_cast<std::size_t>(head_.line_end_ - head_.line_at_));
    constexpr std::size_t kVersion = 8;
    if (head_.reason_.at == 0) {  // "HTTP/1.1 200": the space behind the code is missing
      out_.copy("HTTP/1.1");
      out_.copy(line.substr(kVersion, 4));
      out_.copy(" \r\n");
    } else if (head_.minor_version_ == 1) {
      out_.refer(line);
    } else {
      out_.copy("HTTP/1.1");
      out_.refer(line.substr(kVersion));
    }
  }

  KnownFieldSet dropped() const {
    KnownFieldSet drop = kHopByHop | options_.remove;
    if (to_http10()) {
      drop.add(KnownField::transfer_encoding);
      drop.add(KnownField::trailer);
    }
    // Content-Length: 0, as the parser has seen to (RFC 9110 section 8.6).
    if (head_.status_ < 200 || head_.status_ == 204 || options_.recoded) {
      drop.add(KnownField::content_length);
    }
    return drop;
  }

  void connection_fields(const ForwardedResponse& plan) {
    if (keeps_upgrade()) put_field("upgrade", head_.fields_.first(KnownField::upgrade), out_);
    if (head_.switching()) {
      out_.copy("connection: upgrade\r\n");
    } else if (plan.close) {
      out_.copy(keeps_upgrade() ? "connection: upgrade, close\r\n" : "connection: close\r\n");
    } else if (keeps_upgrade()) {
      out_.copy("connection: upgrade\r\n");
    } else if (to_http10() && !head_.interim()) {
      out_.copy("connection: keep-alive\r\n");
    }
  }

  const ResponseHead& head_;
  const ResponseForwarding& options_;
  OutgoingHead& out_;
};

std::expected<void, ParseError> forward_request(const RequestHead& head,
                                                const RequestForwarding& options,
                                                OutgoingHead& out) {
  RequestForwarder(head, options, out).build();
  if (out.overflowed()) return std::unexpected(ParseError::forwarded_head_too_large);
  return {};
}

std::expected<ForwardedResponse, ParseError> forward_response(const ResponseHead& head,
                                                              const ResponseForwarding& options,
                                                              OutgoingHead& out) {
  const ForwardedResponse plan = ResponseForwarder(head, options, out).build();
  if (out.overflowed()) return std::unexpected(ParseError::forwarded_head_too_large);
  return plan;
}

}  // namespace sluice::gateway::http1
