#include "gateway/console/console_server.h"

#include <array>
#include <chrono>
#include <functional>
#include <openssl/rand.h>
#include <string_view>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/http/verb.hpp>
#include <boost/json.hpp>

#include "gateway/console/console_guard.h"
#include "gateway/console/console_page.h"
#include "gateway/console/top_follower.h"
#include "gateway/control/admin_client.h"
#include "gateway/control/page_server.h"
#include "policy/hexadecimal.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;

constexpr PageServer::Limits kLimits{.connections = 32, .body = 16 * 1024};
constexpr std::chrono::seconds kPatience{5};  // with the admin socket

struct Question {
  std::string_view path;
  std::string_view command;
  bool changes;
};
constexpr std::array kQuestions{
    Question{"/api/explain", "explain", false}, Question{"/api/ban", "ban", true},
    Question{"/api/unban", "unban", true}, Question{"/api/reload", "reload", true}};

json::object ask(const std::string& socket, const json::object& request) {
  auto answer = ask_admin(socket, request, kPatience);
  if (!answer) return {{"ok", false}, {"error", answer.error().message}};
  return std::move(*answer);
}

// What the page shows. A part that this mode does not have is null.
json::object state_of(const std::string& socket, json::object top) {
  json::object state{{"ok", true}, {"top", std::move(top)}};
  json::object status = ask(socket, {{"command", "status"}});
  if (status["ok"] == false) return status;
  state["status"] = std::move(status);
  for (const char* part : {"routes", "bans", "drops", "history"}) {
    json::object answer = ask(socket, {{"command", part}});
    state[part] = answer["ok"] == true ? json::value(std::move(answer)) : json::value(nullptr);
  }
  return state;
}

PageAnswer answer_of(const json::object& object) {
  const json::value* ok = object.if_contains("ok");
  const bool refused = ok != nullptr && *ok == false;
  return {.status = refused ? 400U : 200U,
          .body = json::serialize(object),
          .content_type = "application/json"};
}

std::string nonce() {
  std::array<unsigned char, 16> random{};
  if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) return {};
  return policy::to_hexadecimal(random);
}

PageAnswer page() {
  const ConsolePage page = console_page(nonce());
  return {.body = page.body,
          .content_type = "text/html; charset=utf-8",
          .fields = {{"Content-Security-Policy", page.content_security_policy},
                     {"X-Content-Type-Options", "nosniff"},
                     {"Referrer-Policy", "no-referrer"}}};
}

PageAnswer plain(unsigned status, std::string text) {
  return {.status = status, .body = std::move(text)};
}

}  // namespace

struct ConsoleServer::Parts {
  Parts(asio::io_context& context, ConsoleOptions given)
      : io(context),
        options(std::move(given)),
        guard(options.token_file, options.hosts, options.allow),
        top(options.admin_socket),
        server(io, "--bind", kLimits,
               [this](const PageRequest& request, PageServer::Respond respond) {
                 serve(request, std::move(respond));
               }) {}
  ~Parts() { askers.join(); }

  void serve(const PageRequest& request, PageServer::Respond respond);
  void serve_question(const Question& question, const PageRequest& request,
                      PageServer::Respond respond);
  // The admin socket's answers are waited for elsewhere.
  void later(std::function<json::object()> work, PageServer::Respond respond);

  asio::io_context& io;
  ConsoleOptions options;
  ConsoleGuard guard;
  TopFollower top;
  asio::thread_pool askers{4};
  PageServer server;
};

void ConsoleServer::Parts::serve(const PageRequest& request, PageServer::Respond respond) {
  if (auto refusal = guard.refusal(request)) return respond(std::move(*refusal));
  const std::string_view target(request.message.target().data(), request.message.target().size());
  const http::verb method = request.message.method();
  const bool get = method == http::verb::get || method == http::verb::head;
  if (get && target == "/") return respond(page());
  if (get && target == "/api/state")
    return later([this] { return state_of(options.admin_socket, top.latest()); },
                 std::move(respond));
  for (const Question& question : kQuestions)
    if (target == question.path && method == http::verb::post)
      return serve_question(question, request, std::move(respond));
  respond(get ? plain(404, "there is / and /api/state\n") : plain(405, "not that way\n"));
}

void ConsoleServer::Parts::serve_question(const Question& question, const PageRequest& request,
                                          PageServer::Respond respond) {
  if (question.changes)
    if (auto refusal = guard.refusal_to_change(request)) return respond(std::move(*refusal));
  boost::system::error_code error;
  json::value body = json::parse(request.message.body(), error);
  if (error || !body.is_object())
    return respond(answer_of({{"ok", false}, {"error", "not a JSON object"}}));
  json::object asked = std::move(body.as_object());
  asked["command"] = question.command;
  later([this, asked = std::move(asked)] { return ask(options.admin_socket, asked); },
        std::move(respond));
}

void ConsoleServer::Parts::later(std::function<json::object()> work, PageServer::Respond respond) {
  asio::post(askers, [this, work = std::move(work), respond = std::move(respond)]() mutable {
    asio::post(io, [respond = std::move(respond), answer = answer_of(work())]() mutable {
      respond(std::move(answer));
    });
  });
}

ConsoleServer::ConsoleServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
ConsoleServer::~ConsoleServer() = default;

std::expected<std::unique_ptr<ConsoleServer>, std::string> ConsoleServer::listen(
    asio::io_context& io, ConsoleOptions options) {
  const policy::SocketAddress bind = options.bind;
  const int inherited = options.listening;
  auto parts = std::make_unique<Parts>(io, std::move(options));
  auto listening =
      inherited >= 0 ? parts->server.adopt(inherited, bind) : parts->server.configure(bind);
  if (!listening) return std::unexpected(listening.error());
  return std::unique_ptr<ConsoleServer>(new ConsoleServer(std::move(parts)));
}

policy::SocketAddress ConsoleServer::local_address() const {
  return parts_->server.local_address().value_or(parts_->options.bind);
}

}  // namespace sluice::gateway
