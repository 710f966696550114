// The exchange's part in compression: which answers, and what their heads then say.
#include "policy/compression.h"

#include <algorithm>
#include <charconv>

#include "gateway/compression/compressor.h"
#include "gateway/http/exchange.h"
#include "gateway/http1/request_fields.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

using http1::KnownField;

namespace {

// In any of its lines: they are one list (RFC 9110 section 5.3).
bool forbids_transforming(const http1::FieldTable& fields) {
  if (!fields.has(KnownField::cache_control)) return false;
  for (const http1::Field field : fields) {
    if (field.id == KnownField::cache_control && policy::has_directive(field.value, "no-transform"))
      return true;
  }
  return false;
}

// There is a body of that size, or would be for a GET, the head of whose answer a HEAD gets.
bool is_large_enough(const ResponseHead& response, Method method, std::uint64_t min_size) {
  if (response.body() == BodyKind::length) return response.content_length() >= min_size;
  if (response.body() != BodyKind::none || response.status() == 304) return true;
  // Nothing to compress; without Content-Length: 0 a client would wait for the connection's end.
  if (method != Method::head || response.status() == 204) return false;
  const std::string_view told = response.fields().first(KnownField::content_length);
  if (told.empty()) return true;
  std::uint64_t length = 0;
  const auto read = std::from_chars(told.data(), told.data() + told.size(), length);
  return read.ec == std::errc{} && length >= std::max<std::uint64_t>(min_size, 1);
}

}  // namespace

// RFC 9110 section 8.4 and 8.8.1, RFC 9111 section 5.2.2.6. True: the body goes through
// compressor_. Field lines for it are appended to the answer's.
bool Exchange::begin_compression(ResponseHead& response) {
  const auto& config = config_->policy().routes[*route_].actions.compression;
  http1::FieldTable& fields = response.fields();
  const bool coded = fields.has(KnownField::content_encoding);
  const bool whole = response.status() != 206 && !fields.has(KnownField::content_range);
  if (!config || grpc_ || coded || !whole || response.status() < 200 ||
      !policy::is_compressible(*config, fields.first(KnownField::content_type)) ||
      forbids_transforming(fields)) {
    return false;
  }
  if (!is_large_enough(response, request_.method(), config->min_size)) return false;
  // From here on the answer depends on what the client takes, whatever it is this time.
  answer_lines_.append("vary: accept-encoding\r\n");
  const http1::RequestFields request(request_, joined_field_);
  const auto coding = policy::choose_coding(*config, request.field("accept-encoding").value_or(""));
  if (!coding || request_.minor_version() == 0) return false;
  // A 304 says again what tells answers apart (RFC 9110 section 15.4.5); the client may have one
  // that is not coded.
  if (response.status() != 304)
    answer_lines_.append("content-encoding: ").append(coding_name(*coding)).append("\r\n");
  // A strong validator would be another representation's.
  const std::string_view tag = fields.first(KnownField::etag);
  if (!tag.empty() && !tag.starts_with("W/")) {
    answer_lines_.append("etag: W/").append(tag).append("\r\n");
    fields.drop("etag");
  }
  fields.drop("accept-ranges");
  fields.drop("content-md5");
  fields.drop("content-digest");
  fields.drop("repr-digest");  // a representation is what it is with its coding (RFC 9530)
  fields.drop("digest");
  if (response.body() == BodyKind::none) return true;  // the head alone
  compressor_ = worker_.compressors().take(*coding);
  compressor_->begin(config->level);
  compressed_.clear();
  flush_compressor_ = response.body() != BodyKind::length;
  return true;
}

// What was written comes out at once where the origin's length is not known: it may be waiting.
bool Exchange::take_compressed(bool at_end) {
  if (at_end ? !compressor_->finish(compressed_)
             : flush_compressor_ && !compressor_->flush(compressed_)) {
    cut_short("compression failed");
    return false;
  }
  if (!compressed_.empty()) client_->add(compressed_);
  return true;
}

void Exchange::end_compression() {
  if (compressor_) worker_.compressors().give_back(std::move(compressor_));
}

}  // namespace sluice::gateway::http
