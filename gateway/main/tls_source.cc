#include "gateway/main/tls_source.h"

#include <algorithm>

#include "gateway/log.h"

namespace sluice::control {
namespace {

namespace tls = gateway::tls;
using namespace std::chrono_literals;

// A ticket is good for 12 hours (ServerContext), and opened with any of the keys: the oldest one
// lives that long after its last ticket.
constexpr std::chrono::hours kRotation{12};
constexpr std::size_t kTicketKeys = 3;

// Whether `config` may name certificates, keys or secrets.
bool names_files(const policy::Config& config) {
  for (const policy::Listener& listener : config.listeners)
    if (listener.tls) return true;
  for (const policy::Upstream& upstream : config.upstreams)
    if (upstream.tls || upstream.sticky) return true;
  return config.ai || config.kubernetes || config.redis || !config.auth.empty();
}

policy::Diagnostics to_diagnostics(const tls::Problems& problems) {
  policy::Diagnostics out;
  for (const tls::Problem& problem : problems)
    out.push_back({.severity = policy::Diagnostic::Severity::error,
                   .where = problem.where,
                   .message = problem.message,
                   .hint = {}});
  return out;
}

std::string to_text(const tls::Problems& problems) {
  std::string text;
  for (const policy::Diagnostic& one : to_diagnostics(problems))
    text += (text.empty() ? "" : "\n") + one.to_string();
  return text;
}

}  // namespace

TlsSource::TlsSource(boost::asio::io_context& io, std::function<void()> changed)
    : io_(io), changed_(std::move(changed)), rotation_(io) {}

std::expected<tls::MaterialPtr, std::string> TlsSource::load(const policy::Config& config) {
  if (!names_files(config)) return nullptr;
  auto material = files_.load(config);
  if (!material) return std::unexpected(to_text(material.error()));
  if (ticket_keys_.empty()) rotate_ticket_keys();
  material->ticket_keys = ticket_keys_;
  auto contexts = tls::Contexts::build(config, *material, trial_keys_, trial_.get());
  if (!contexts) return std::unexpected(to_text(contexts.error()));
  trial_ = std::move(*contexts);
  return std::make_shared<const tls::Material>(std::move(*material));
}

void TlsSource::adopt(std::shared_ptr<const policy::Snapshot> policy, tls::MaterialPtr material) {
  policy_ = std::move(policy);
  current_ = std::move(material);
  files_.adopt(policy_->config(), current_ ? *current_ : tls::Material{});
  if (watched_ == files_.paths()) return;
  watched_ = files_.paths();
  watcher_.reset();
  if (watched_.empty()) return;
  watcher_ = std::make_unique<gateway::PolicyWatcher>(
      io_, std::vector<std::string>(watched_.begin(), watched_.end()), [this] { refresh(); });
  // What changed between reading and watching.
  refresh();
}

void TlsSource::refresh() {
  if (files_.refresh()) publish(files_.current());
}

void TlsSource::publish(tls::Material material) {
  material.ticket_keys = ticket_keys_;
  auto contexts = tls::Contexts::build(policy_->config(), material, trial_keys_, trial_.get());
  if (!contexts) {
    gateway::log_error("tls", "the new files are not used",
                       {{"reason", to_text(contexts.error())}});
    return;
  }
  trial_ = std::move(*contexts);
  current_ = std::make_shared<const tls::Material>(std::move(material));
  changed_();
}

// Those before it still open the tickets that they have made.
void TlsSource::rotate_ticket_keys() {
  if (auto fresh = tls::make_ticket_key()) ticket_keys_.insert(ticket_keys_.begin(), fresh);
  if (ticket_keys_.size() > kTicketKeys) ticket_keys_.pop_back();
  rotated_ = std::chrono::steady_clock::now();
  if (current_) publish(*current_);
  rotate_after(kRotation);
}

void TlsSource::rotate_after(std::chrono::steady_clock::duration pause) {
  rotation_.expires_after(pause);
  rotation_.async_wait([this](const boost::system::error_code& error) {
    if (!error) rotate_ticket_keys();
  });
}

void TlsSource::inherit(TicketKeysLeft left) {
  if (left.keys.empty()) return;
  ticket_keys_ = std::move(left.keys);
  if (ticket_keys_.size() > kTicketKeys) ticket_keys_.resize(kTicketKeys);
  const auto age = std::clamp<std::chrono::seconds>(left.age, 0s, kRotation);
  rotated_ = std::chrono::steady_clock::now() - age;
  rotate_after(kRotation - age);
}

TicketKeysLeft TlsSource::leave() const {
  return {ticket_keys_, std::chrono::duration_cast<std::chrono::seconds>(
                            std::chrono::steady_clock::now() - rotated_)};
}

policy::Diagnostics check_tls_files(const policy::Config& config) {
  tls::Files files;
  auto material = files.load(config);
  if (!material) return to_diagnostics(material.error());
  const tls::TicketKeys keys;
  auto contexts = tls::Contexts::build(config, *material, keys, nullptr);
  return contexts ? policy::Diagnostics{} : to_diagnostics(contexts.error());
}

}  // namespace sluice::control
