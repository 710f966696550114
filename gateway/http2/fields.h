// Heads and trailers as HTTP/2 fields, for nghttp2. Names go out in lower case, and without what
// belongs to one hop only (RFC 9113 section 8.2).
#pragma once

#include <array>
#include <cstdint>
#include <forward_list>
#include <nghttp2/nghttp2.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/http1/forward.h"
#include "gateway/http1/head.h"

namespace sluice::gateway::http2 {

// One per worker is enough: nghttp2 copies what it is given. Not thread safe.
class FieldList {
 public:
  void clear() {
    fields_.clear();
    more_names_.clear();
    used_ = 0;
  }
  // The bytes must live until clear(), but for upper-case names, which are copied.
  void add(std::string_view name, std::string_view value, bool secret = false);
  void add_status(int status);
  // A head's fields but those in `drop`, hop-by-hop and nominated ones.
  void add_all(const http1::FieldTable& fields, http1::KnownFieldSet drop);
  void add_lines(std::string_view lines);  // "name: value\r\n"…

  std::span<const nghttp2_nv> fields() const { return fields_; }

 private:
  std::string_view lower(std::string_view name);

  std::vector<nghttp2_nv> fields_;
  std::array<char, 4096> memory_;              // lower-case copies
  std::forward_list<std::string> more_names_;  // those that do not fit there
  std::size_t used_ = 0;
  std::array<char, 3> status_;
};

// `lines`, `recoded` and `remove` as for http1::forward_response.
void response_fields(const http1::ResponseHead& head, const http1::ResponseForwarding& options,
                     FieldList& out);

// `path`, `host`, `add` and `remove` as for http1::forward_request. `scheme`: "http" or "https".
void request_fields(const http1::RequestHead& head, const http1::RequestForwarding& options,
                    std::string_view scheme, std::string& path_memory, FieldList& out);

}  // namespace sluice::gateway::http2
