#include "gateway/console/console_guard.h"

#include <algorithm>
#include <openssl/crypto.h>
#include <utility>

#include <boost/beast/http/field.hpp>
#include <boost/beast/http/verb.hpp>

#include "gateway/console/token_file.h"

namespace sluice::gateway {
namespace {

namespace http = boost::beast::http;

PageAnswer refused(unsigned status, std::string why) {
  return {.status = status,
          .body = "{\"ok\":false,\"error\":\"" + std::move(why) + "\"}\n",
          .content_type = "application/json"};
}

// "localhost:9901" and "[::1]:9901" without the port and the brackets.
std::string_view host_of(std::string_view authority) {
  if (authority.starts_with('[')) return authority.substr(1, authority.find(']') - 1);
  return authority.substr(0, authority.find(':'));
}

bool same_secret(std::string_view given, std::string_view wanted) {
  return given.size() == wanted.size() &&
         CRYPTO_memcmp(given.data(), wanted.data(), wanted.size()) == 0;
}

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

}  // namespace

ConsoleGuard::ConsoleGuard(std::string token_file, std::vector<std::string> hosts,
                           std::vector<policy::Prefix> allow)
    : token_file_(std::move(token_file)), hosts_(std::move(hosts)), allow_(std::move(allow)) {}

bool ConsoleGuard::known_host(std::string_view host) const {
  return host == "localhost" || policy::IpAddress::parse(host) ||
         std::ranges::find(hosts_, host) != hosts_.end();
}

std::optional<PageAnswer> ConsoleGuard::refusal(const PageRequest& request) const {
  const bool allowed = allow_.empty() || std::ranges::any_of(allow_, [&](const auto& prefix) {
                         return prefix.contains(request.peer);
                       });
  if (!allowed) return refused(403, "not among those who may ask (allow)");
  const auto& message = request.message;
  const std::string_view authority = view(message[http::field::host]);
  if (!known_host(host_of(authority)))
    return refused(421,
                   "called by a name that is not mine; call an address or localhost, or name it by "
                   "--hosts or admin.hosts");
  const std::string_view site = view(message["Sec-Fetch-Site"]);
  // `none`: the address bar. Another site may lead here (a link to the page), not ask.
  const bool asks = view(message.target()).starts_with("/api/");
  if (asks && !site.empty() && site != "same-origin" && site != "none")
    return refused(403, "a page of another site asks");
  const std::string_view origin = view(message[http::field::origin]);
  if (!origin.empty() && origin != "http://" + std::string(authority))
    return refused(403, "a page of another origin asks");
  if (message.method() == http::verb::post &&
      !view(message[http::field::content_type]).starts_with("application/json"))
    return refused(415, "a question is application/json");
  return std::nullopt;
}

std::optional<PageAnswer> ConsoleGuard::refusal_to_change(const PageRequest& request) const {
  if (token_file_.empty())
    return refused(403,
                   "nothing can be changed here: there is no token (--token-file or "
                   "admin.token)");
  const auto token = read_token_file(token_file_);
  if (!token) return refused(403, "nothing can be changed here: the token file: " + token.error());
  constexpr std::string_view kScheme = "Bearer ";
  const std::string_view given = view(request.message[http::field::authorization]);
  if (!given.starts_with(kScheme) || !same_secret(given.substr(kScheme.size()), *token))
    return refused(401, "the token is missing or wrong");
  return std::nullopt;
}

}  // namespace sluice::gateway
