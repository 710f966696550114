// What answers of our own are made of, whatever protocol they are sent in.
#pragma once

#include <string_view>

namespace sluice::gateway::http {

std::string_view reason_phrase(int status);

// IMF-fixdate (RFC 9110 section 5.6.7), of this thread, made anew once a second.
std::string_view date_now();

}  // namespace sluice::gateway::http
