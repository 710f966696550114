// What answers of our own are made of, whatever protocol they are sent in.
#pragma once

#include <string_view>

namespace sluice::gateway::http {

// RFC 9110 section 15; "": a status that it does not know.
std::string_view reason_phrase(int status);

// Content-Length may be said (RFC 9110 section 8.6; of 304 it would be that of another answer).
constexpr bool has_length(int status) {
  return status >= 200 && status != 204 && status != 304;
}

// IMF-fixdate (RFC 9110 section 5.6.7), of this thread, made anew once a second.
std::string_view date_now();

}  // namespace sluice::gateway::http
