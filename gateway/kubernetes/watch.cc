#include "gateway/kubernetes/watch.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/json/parse.hpp>

#include "gateway/kubernetes/json_parts.h"
#include "gateway/log.h"

namespace sluice::gateway::kubernetes {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kListSilence = 30s;
constexpr std::chrono::milliseconds kWatchGrace = 30s;  // over what the server was asked for
constexpr std::chrono::seconds kStands = 5s;            // a watch that lasts so long is no failure
constexpr std::size_t kLongestLine = 8UL << 20;
constexpr std::size_t kLongestList = 256UL << 20;
constexpr std::size_t kDeepest = 128;  // managedFields go deep
constexpr const char* kPage = "limit=500";

std::string version_of(const json::object& object) {
  return std::string(text_in(object, "metadata", "resourceVersion"));
}

std::optional<json::object> parse_object(std::string_view text) {
  boost::system::error_code error;
  const json::parse_options options{.max_depth = kDeepest};
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

}  // namespace

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_';
    if (plain) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

Watch::Watch(boost::asio::io_context& io, WatchOptions options, ApiServer server, Events events)
    : io_(io),
      options_(std::move(options)),
      server_(std::move(server)),
      events_(std::move(events)),
      random_(std::random_device{}()),
      timer_(io),
      pause_(options_.first_pause) {
  list();
}

void Watch::use(const ApiServer& server) {
  if (server == server_) return;
  // Versions are those of one server's store.
  if (!(server.where == server_.where)) {
    version_.clear();
    list_version_ = "0";
  } else if (counts_.up) {
    server_ = server;
    return;
  }
  server_ = server;
  pause_ = options_.first_pause;
  go_on();
}

void Watch::ask(const std::string& query, std::chrono::milliseconds silence,
                std::function<void(const ApiReply&)> head,
                std::function<void(std::string_view)> body,
                std::function<void(const std::string&)> ended) {
  std::string target = options_.path + "?" + query;
  if (!options_.selector.empty()) target += (query.empty() ? "" : "&") + options_.selector;
  ++*turn_;
  reply_ = {};
  received_.clear();
  request_ = std::make_unique<ApiRequest>(
      io_, server_, std::move(target), silence,
      ApiRequest::Events{.head =
                             [this, head = std::move(head)](const ApiReply& reply) {
                               reply_ = reply;
                               if (head) head(reply);
                             },
                         .body = std::move(body),
                         .ended = std::move(ended)});
}

// --- listing ---

// "0" may be answered from the server's cache; of the latest, pages are asked for.
void Watch::list() {
  items_.clear();
  std::string query = kPage;
  if (list_version_ == "0") query = "resourceVersion=0";
  next_page(query);
}

void Watch::next_page(const std::string& query) {
  ask(
      query, kListSilence, {},
      [this](std::string_view bytes) {
        if (received_.size() + bytes.size() <= kLongestList) received_.append(bytes);
      },
      [this](const std::string& problem) { page_ended(problem); });
}

void Watch::page_ended(const std::string& problem) {
  if (!problem.empty()) return refused(problem, true);
  if (reply_.status != 200) {
    list_version_.clear();
    return refused(reason(), true);
  }
  auto page = parse_object(received_);
  json::value* items = page ? page->if_contains("items") : nullptr;
  const std::string version = page ? version_of(*page) : std::string();
  // An empty list is `null` to some servers.
  if (items == nullptr || (!items->is_array() && !items->is_null()) || version.empty())
    return refused("what came is not a list", true);
  if (items->is_array())
    for (json::value& item : items->as_array())
      items_.push_back(std::move(item));
  if (const auto token = text_in(*page, "metadata", "continue"); !token.empty())
    return next_page(std::string(kPage) + "&continue=" + percent_encoded(token));
  version_ = version;
  list_version_ = "0";
  ++counts_.lists;
  pause_ = options_.first_pause;
  answered();
  received_.clear();
  events_.listed(std::exchange(items_, json::array()));
  watch();
}

// --- watching ---

void Watch::watch() {
  const auto most = static_cast<unsigned>(options_.duration.count());
  const auto duration = options_.duration + std::chrono::seconds(most == 0 ? 0 : random_() % most);
  began_ = std::chrono::steady_clock::now();
  ask(
      "watch=1&allowWatchBookmarks=true&resourceVersion=" + percent_encoded(version_) +
          "&timeoutSeconds=" + std::to_string(duration.count()),
      duration + kWatchGrace,
      [this](const ApiReply& reply) {
        if (reply.status == 200) answered();
      },
      [this](std::string_view bytes) { watch_bytes(bytes); },
      [this](const std::string& problem) { watch_ended(problem); });
  ++counts_.watches;
}

// An event a line. What is cut off in the middle of one is not believed: it comes again.
void Watch::watch_bytes(std::string_view bytes) {
  received_.append(bytes);
  if (reply_.status != 200) return;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = received_.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const ApiRequest* asked = request_.get();
    event(std::string_view(received_).substr(begin, end - begin));
    if (request_.get() != asked) return;  // it has ended
  }
  received_.erase(0, begin);
  if (received_.size() > kLongestLine) refused("an event is too long", false);
}

void Watch::event(std::string_view line) {
  if (line.empty()) return;
  const auto parsed = parse_object(line);
  const json::object* object = parsed ? object_in(*parsed, "object") : nullptr;
  if (object == nullptr) return refused("what came is not an event", true);
  const std::string_view type = text_in(*parsed, "type");
  if (type == "ERROR") return error_event(*object);
  const std::string version = version_of(*object);
  if (version.empty()) return refused("an event has no version", true);
  pause_ = options_.first_pause;
  version_ = version;
  if (type == "ADDED" || type == "MODIFIED") return events_.put(*object);
  if (type == "DELETED") return events_.removed(*object);
}

void Watch::error_event(const json::object& status) {
  const json::value* code = status.if_contains("code");
  const bool gone = code != nullptr && code->is_int64() && code->as_int64() == kGone;
  if (gone) too_old();
  refused(std::string(text_in(status, "message")), gone);
}

// The server is there, whatever came before: it only has to be asked for all of it.
void Watch::too_old() {
  list_version_.clear();
  pause_ = options_.first_pause;
}

void Watch::watch_ended(const std::string& problem) {
  if (reply_.status != 0 && reply_.status != 200) {
    const bool gone = reply_.status == kGone;
    if (gone) too_old();
    return refused(reason(), gone);
  }
  const bool stood = std::chrono::steady_clock::now() - began_ >= kStands;
  if (stood) pause_ = options_.first_pause;
  // That the server ends a watch is no failure; one that ends them all at once is asked ever less
  // often all the same.
  if (!problem.empty()) return refused(problem, false);
  stood ? after(0ms) : again(false);
}

// --- failures ---

std::string Watch::reason() const {
  std::string text = "status " + std::to_string(reply_.status);
  if (reply_.status == 401) text += ", the token is not accepted";
  const auto status = parse_object(received_);
  const std::string_view message = status ? text_in(*status, "message") : std::string_view();
  if (!message.empty()) text.append(": ").append(message.substr(0, 300));
  return text;
}

void Watch::answered() {
  counts_.up = true;
  if (std::exchange(failing_, {}).empty()) return;
  log_info("kubernetes", "the API server answers again", {{"watch", options_.name}});
}

void Watch::refused(const std::string& problem, bool again_from_start) {
  failed(problem);
  again(again_from_start);
}

void Watch::failed(const std::string& problem) {
  ++counts_.failures;
  counts_.up = false;
  if (failing_ == problem) return;
  failing_ = problem.empty() ? "no reason was given" : problem;
  log_warn("kubernetes",
           counts_.lists == 0 ? "the API server cannot be asked"
                              : "the API server cannot be asked; what it said last holds",
           {{"watch", options_.name}, {"error", problem}});
}

// Not all nodes at the same moment.
void Watch::again(bool from_start) {
  if (from_start) version_.clear();
  const auto spread = pause_ / 2 + pause_ * (random_() % 100) / 200;
  pause_ = std::min(pause_ * 2, options_.longest_pause);
  after(std::max<std::chrono::milliseconds>(spread, reply_.retry_after));
}

void Watch::after(std::chrono::milliseconds pause) {
  request_.reset();
  timer_.expires_after(pause);
  timer_.async_wait(
      [this, turn = turn_, mine = ++*turn_](const boost::system::error_code& error) {
        if (!error && *turn == mine) go_on();
      });
}

void Watch::go_on() {
  version_.empty() ? list() : watch();
}

}  // namespace sluice::gateway::kubernetes
