#include "gateway/gateway.h"

#include <algorithm>
#include <latch>
#include <map>
#include <mutex>
#include <random>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/access_log.h"
#include "gateway/ai/proxy/registry.h"
#include "gateway/auth/auth_set.h"
#include "gateway/clocks.h"
#include "gateway/http1/parse_error.h"
#include "gateway/kubernetes/find_server.h"
#include "gateway/live_view.h"
#include "gateway/log.h"
#include "gateway/memory.h"
#include "gateway/metrics.h"
#include "gateway/metrics_sources.h"
#include "gateway/name_resolver.h"
#include "gateway/operator_access.h"
#include "gateway/redis/limit_leases.h"
#include "gateway/status.h"
#include "gateway/tls/named_files.h"
#include "gateway/upstream/connector.h"
#include "gateway/upstream/upstream_control.h"
#include "gateway/worker.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;

policy::HashKey random_key() {
  std::random_device device;
  const auto word = [&] { return std::uint64_t{device()} << 32 | device(); };
  return {word(), word()};
}

// Whether Redis counts keys' limits and budgets.
bool shares_accounts(const policy::Config& config) {
  return config.ai && config.ai->scope == policy::LimitScope::cluster;
}

std::optional<policy::RedisConfig> with_password(std::optional<policy::RedisConfig> redis,
                                                 const tls::Material* material) {
  if (redis) redis->password = tls::text_or_file(redis->password, material);
  return redis;
}

std::vector<std::string> parse_error_names() {
  std::vector<std::string> names;
  constexpr auto kLast = static_cast<int>(http1::ParseError::forwarded_head_too_large);
  for (int i = 0; i <= kLast; ++i)
    names.emplace_back(http1::name(static_cast<http1::ParseError>(i)));
  return names;
}

std::vector<std::string> connect_error_names() {
  std::vector<std::string> names;
  for (int i = 0; i <= static_cast<int>(ConnectError::other); ++i)
    names.emplace_back(name(static_cast<ConnectError>(i)));
  return names;
}

MetricsLayout layout_of(const policy::Snapshot& snapshot, const ClusterSet& clusters) {
  MetricsLayout layout;
  const policy::Config& config = snapshot.config();
  for (const policy::Listener& listener : config.listeners)
    layout.listeners.push_back(listener.name);
  for (const policy::Route& route : config.routes)
    layout.routes.push_back({route.name, snapshot.find_listener(route.listener).value_or(0)});
  for (const auto& cluster : clusters.clusters()) {
    MetricsLayout::Upstream entry{cluster->name(), {}};
    for (const auto& endpoint : cluster->endpoints())
      entry.endpoints.push_back(endpoint->name());
    if (cluster->config().original_destination)
      entry.endpoints.emplace_back("original_destination");
    layout.upstreams.push_back(std::move(entry));
  }
  for (const policy::Limit& limit : config.limits)
    layout.limits.push_back(limit.name);
  for (const policy::Auth& auth : config.auth)
    layout.auths.push_back(auth.name);
  return layout;
}

void close_socket(const ListenerSocket& socket) {
  if (socket.fd >= 0) ::close(socket.fd);
}

// The loads of listeners by name, for all workers; they are never forgotten, since names are few.
class ListenerLoads {
 public:
  ListenerLoads() {
    rlimit descriptors{};
    ::getrlimit(RLIMIT_NOFILE, &descriptors);
    budget_->allowed = connections_allowed(descriptors.rlim_cur);
  }
  std::shared_ptr<ListenerLoad> of(const std::string& name) const {
    const std::scoped_lock lock(mutex_);
    auto& load = loads_[name];
    if (!load) load = std::make_shared<ListenerLoad>(budget_);
    return load;
  }

 private:
  std::shared_ptr<ConnectionBudget> budget_ = std::make_shared<ConnectionBudget>();
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<ListenerLoad>> loads_;
};

// A control thread of our own, where the caller has none.
class ControlThread {
 public:
  explicit ControlThread(asio::io_context* given) : io_(given != nullptr ? given : &own_) {
    if (given == nullptr) thread_ = std::thread([this] { own_.run(); });
  }
  ~ControlThread() { stop(); }
  void stop() {
    work_.reset();
    own_.stop();
    if (thread_.joinable()) thread_.join();
  }
  asio::io_context& io() { return *io_; }
  bool own() const { return io_ == &own_; }

  // Runs `work` on the control thread and waits for it.
  template <typename Work>
  void run(Work work) {
    if (!own()) return work();
    std::latch ran(1);
    asio::post(own_, [&] {
      work();
      ran.count_down();
    });
    ran.wait();
  }

 private:
  asio::io_context own_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{own_.get_executor()};
  asio::io_context* io_;
  std::thread thread_;
};

// What happens at the end of a drain; shared with the workers' last words.
struct Drain : std::enable_shared_from_this<Drain> {
  Drain(asio::io_context& io, std::size_t workers, std::function<void()> when_done)
      : timer(io), left(workers), done(std::move(when_done)) {}

  // Control thread.
  void worker_ended() {
    if (--left > 0) return;
    timer.cancel();
    if (done) std::exchange(done, nullptr)();
  }

  asio::steady_timer timer;
  std::size_t left;
  std::function<void()> done;
};

class GatewayImpl final : public Gateway, public OperatorAccess {
 public:
  explicit GatewayImpl(GatewayOptions options)
      : options_(std::move(options)),
        control_(options_.control),
        metrics_({.workers = options_.workers,
                  .parse_errors = parse_error_names(),
                  .connect_errors = connect_error_names()}),
        auth_(random_key()),
        limits_(random_key()),
        bans_(random_key()),
        diverted_(random_key()) {
    leases_ = std::make_unique<LimitLeases>(control_.io(), options_.own_mark);
    metrics_.add_source([this] { return limit_samples(); });
    metrics_.add_source(
        [this] { return upstreams_ ? upstreams_->samples() : std::vector<MetricSample>{}; });
    metrics_.add_source([this] { return certificate_samples(); });
    metrics_.add_source(process_samples);
    metrics_.add_collector([this](MetricsPage& page) {
      if (upstreams_) collect_clusters(*upstreams_->current(), page);
      if (access_log_) collect_access_log(*access_log_, page);
      ai_.collect(page);
    });
  }

  ~GatewayImpl() override {
    control_.run([this] {
      *alive_ = false;
      upstreams_.reset();
      leases_->close();
      names_.close();
      memory_timer_.cancel();
    });
    workers_.clear();
    control_.run([this] { leases_.reset(); });
    control_.stop();
  }

  void apply(std::shared_ptr<const policy::Snapshot> snapshot, std::vector<ListenerSocket> sockets,
             tls::MaterialPtr material) override;
  void apply_tls(tls::MaterialPtr material) override;
  void drain(std::chrono::milliseconds deadline, std::function<void()> done) override;
  void drain_connections(std::vector<std::uint64_t> cookies,
                         std::chrono::milliseconds deadline) override;
  void look(const Look& at) const override;
  std::vector<RouteTotals> routes(std::size_t most) const override { return metrics_.routes(most); }
  std::expected<void, std::string> order(const EndpointOrder& order) override {
    if (!upstreams_) return std::unexpected("the gateway has no policy yet");
    return upstreams_->order(order);
  }
  std::string remembered(bool limits) const override {
    return save_memory(limits ? &limits_ : nullptr, bans_, diverted_, answers_, auth_);
  }
  std::expected<void, std::string> remember(std::string_view bytes) override {
    return restore_memory(bytes, limits_, bans_, diverted_, answers_, auth_);
  }
  std::vector<OwnBan> own_bans() const override {
    return gateway::own_bans(diverted_, snapshot_.get());
  }
  bool unban(const policy::Prefix& source, Unban how) override;
  std::string status_json() const override;
  std::string metrics_text() const override { return metrics_.text(); }
  Metrics& metrics() override { return metrics_; }
  AccessLog* access_log() override { return access_log_.get(); }

 private:
  void open_log(const policy::Config& config);
  std::shared_ptr<const ClusterSet> apply_upstreams(const policy::Config& config,
                                                    const tls::ContextsPtr& tls,
                                                    const tls::Material* material);
  tls::ContextsPtr make_tls(const policy::Config& config, const tls::Material* material);
  std::vector<MetricSample> certificate_samples() const;
  void start_workers();
  void look_at_memory();
  void put_in_force(std::shared_ptr<const PolicyGeneration> generation);
  void apply_here(std::shared_ptr<const policy::Snapshot> snapshot,
                  std::vector<ListenerSocket> sockets, tls::MaterialPtr material);
  void apply_tls_here(tls::MaterialPtr material);
  void clusters_changed(std::shared_ptr<const ClusterSet> clusters);
  void request_ban(BanRequest request);
  std::vector<MetricSample> limit_samples() const;

  GatewayOptions options_;
  ControlThread control_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // control thread's view
  Metrics metrics_;
  std::unique_ptr<AccessLog> access_log_;
  KeptAnswers answers_;
  std::unique_ptr<UpstreamControl> upstreams_;  // from the first apply() on
  auth::AuthRegistry auth_;                     // control thread
  ai::Registry ai_;                             // the same
  policy::LimitStore limits_;
  policy::BanTracker bans_;
  policy::DivertedSources diverted_;
  NameResolver names_{control_.io(), options_.own_mark};
  std::unique_ptr<LimitLeases> leases_;             // control thread's, but what it says
  std::vector<policy::LimitHandle> limit_handles_;  // control thread's; for the metrics page
  OverloadGuard overload_;
  asio::steady_timer memory_timer_{control_.io()};
  ListenerLoads loads_;
  AcceptBalance balance_{options_.workers};
  tls::TicketKeys ticket_keys_;
  tls::ContextsPtr tls_;
  std::shared_ptr<const PolicyGeneration> generation_;
  std::vector<std::shared_ptr<const PolicyGeneration>> replaced_;  // that requests may still hold
  std::shared_ptr<const policy::Snapshot> snapshot_;
  std::vector<std::pair<std::string, WayIn>> serving_;
  std::vector<std::unique_ptr<Worker>> workers_;
  bool draining_ = false;
};

void GatewayImpl::open_log(const policy::Config& config) {
  if (access_log_) {
    if (const auto result = access_log_->configure(config.access_log); !result) {
      log_error("access log", "kept as it was", {{"error", result.error()}});
    }
    return;
  }
  auto log = AccessLog::open({.workers = options_.workers}, config.access_log);
  if (!log) {
    log_error("access log", "going to standard error instead", {{"error", log.error()}});
    policy::AccessLogConfig fallback = config.access_log;
    fallback.path.clear();
    log = AccessLog::open({.workers = options_.workers}, fallback);
    if (log) (void)(*log)->configure(config.access_log);  // so that reopen() tries it again
  }
  access_log_ = std::move(log.value());
}

void GatewayImpl::start_workers() {
  for (std::uint32_t i = 0; i < options_.workers; ++i) {
    workers_.push_back(std::make_unique<Worker>(WorkerSetup{
        .index = i,
        .own_mark = options_.own_mark,
        .metrics = &metrics_.worker(i),
        .access_log = access_log_.get(),
        .bans = &bans_,
        .diverted = &diverted_,
        .leases = leases_.get(),
        .overload = &overload_,
        .names = &names_,
        .balance = &balance_,
        .request_ban = [this](BanRequest request) { request_ban(std::move(request)); },
        .load_of = [this](const std::string& name) { return loads_.of(name); },
    }));
  }
}

void GatewayImpl::request_ban(BanRequest request) {
  asio::post(control_.io(), [this, alive = alive_, request = std::move(request)] {
    if (*alive && options_.on_ban) options_.on_ban(request);
  });
}

// Walks the tables: once for each page.
std::vector<MetricSample> GatewayImpl::limit_samples() const {
  std::vector<MetricSample> samples = leases_->samples();
  const std::uint64_t now = steady_now();
  for (const policy::LimitHandle& limit : limit_handles_) {
    const policy::LimitTableStats stats = limit.state().stats(now);
    const std::vector<std::pair<std::string, std::string>> labels{{"limit", limit.name()}};
    samples.push_back({"sluice_limit_keys", "Keys that have a count of their own just now.",
                       SampleType::gauge, labels, static_cast<double>(stats.live)});
    samples.push_back({"sluice_limit_keys_capacity", "Keys that can have one.", SampleType::gauge,
                       labels, static_cast<double>(stats.entries)});
    samples.push_back({"sluice_limit_overflow_total",
                       "Verdicts on keys that shared a count with their network, for want of room.",
                       SampleType::counter, labels, static_cast<double>(stats.overflow)});
  }
  samples.push_back({"sluice_diverted_sources",
                     "Sources that bans of action route name just now.",
                     SampleType::gauge,
                     {},
                     static_cast<double>(diverted_.list(now).size())});
  samples.push_back({"sluice_bans_refused_total",
                     "Bans that the gateway did not ask for: bans.rate, or no room to divert.",
                     SampleType::counter,
                     {},
                     static_cast<double>(bans_.refused() + diverted_.refused())});
  return samples;
}

// A large policy takes milliseconds to free: not a worker's, whose last request of it has ended.
void GatewayImpl::put_in_force(std::shared_ptr<const PolicyGeneration> generation) {
  if (generation_) replaced_.push_back(std::move(generation_));
  generation_ = std::move(generation);
}

void GatewayImpl::look_at_memory() {
  overload_.look_at_memory();
  std::erase_if(replaced_, [](const auto& generation) { return generation.use_count() == 1; });
  memory_timer_.expires_after(std::chrono::milliseconds(250));
  memory_timer_.async_wait([this, alive = alive_](boost::system::error_code error) {
    if (!error && *alive) look_at_memory();
  });
}

bool GatewayImpl::unban(const policy::Prefix& source, Unban how) {
  if (snapshot_ && how == Unban::forget) bans_.forget(snapshot_->ban_rules(), source);
  if (snapshot_ && how == Unban::pardon) bans_.lift(snapshot_->ban_rules(), source, steady_now());
  return diverted_.remove(source);
}

void GatewayImpl::apply(std::shared_ptr<const policy::Snapshot> snapshot,
                        std::vector<ListenerSocket> sockets, tls::MaterialPtr material) {
  control_.run([&] { apply_here(std::move(snapshot), std::move(sockets), std::move(material)); });
}

void GatewayImpl::apply_here(std::shared_ptr<const policy::Snapshot> snapshot,
                             std::vector<ListenerSocket> sockets, tls::MaterialPtr material) {
  const policy::Config& config = snapshot->config();
  open_log(config);
  if (!upstreams_) {
    UpstreamControlOptions options;
    options.own_mark = options_.own_mark;
    options.on_change = [this](auto clusters) { clusters_changed(std::move(clusters)); };
    upstreams_ = std::make_unique<UpstreamControl>(control_.io(), answers_, std::move(options));
  }
  auto generation = std::make_shared<PolicyGeneration>();
  generation->snapshot = snapshot;
  generation->tls = make_tls(config, material.get());
  generation->clusters = apply_upstreams(config, generation->tls, material.get());
  generation->slots = metrics_.begin_generation(layout_of(*snapshot, *generation->clusters));
  if (!generation->slots) {
    log_error("gateway", "the policy has too many objects to count", {});
    for (const ListenerSocket& socket : sockets)
      close_socket(socket);
    return;
  }
  generation->limits = limits_.resolve(config.limits, config.redis);
  leases_->configure(with_password(config.redis, material.get()), generation->limits,
                     generation->tls->redis(), shares_accounts(config));
  limit_handles_ = generation->limits;
  generation->auth = auth_.apply(*snapshot, material.get());
  generation->ai = ai_.apply(*snapshot, material.get());
  overload_.configure(config.overload);
  look_at_memory();
  if (workers_.empty()) start_workers();

  serving_.clear();
  std::vector<std::vector<ListenerSocket>> by_worker(workers_.size());
  for (ListenerSocket& socket : sockets) {
    serving_.emplace_back(socket.listener, socket.way);
    const bool known = snapshot->find_listener(socket.listener).has_value();
    if (!known || socket.worker >= workers_.size()) {
      close_socket(socket);
      continue;
    }
    by_worker[socket.worker].push_back(std::move(socket));
  }
  std::latch adopted(static_cast<std::ptrdiff_t>(workers_.size()));
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    workers_[i]->apply(generation, std::move(by_worker[i]), [&] { adopted.count_down(); });
  }
  adopted.wait();
  put_in_force(std::move(generation));
  snapshot_ = std::move(snapshot);
}

void GatewayImpl::look(const Look& at) const {
  if (generation_) at(*generation_->snapshot, LiveView(*generation_, diverted_));
}

// The same policy, on other endpoints. Requests under way go on with those that they know.
void GatewayImpl::clusters_changed(std::shared_ptr<const ClusterSet> clusters) {
  if (!generation_ || generation_->clusters == clusters) return;
  auto generation = std::make_shared<PolicyGeneration>(*generation_);
  generation->clusters = std::move(clusters);
  generation->slots =
      metrics_.begin_generation(layout_of(*generation->snapshot, *generation->clusters));
  if (!generation->slots) {
    log_error("gateway", "too many endpoints to count; the upstreams stay as they were", {});
    return;
  }
  put_in_force(std::move(generation));
  for (const auto& worker : workers_)
    worker->update(generation_);
}

// What it is made of has been tried by whoever read the files. Should it fail here all the same,
// nothing is served or asked in clear text instead.
tls::ContextsPtr GatewayImpl::make_tls(const policy::Config& config,
                                       const tls::Material* material) {
  static const tls::Material kNone;
  const tls::Material& given = material == nullptr ? kNone : *material;
  ticket_keys_.set(given.ticket_keys);
  auto made = tls::Contexts::build(config, given, ticket_keys_, tls_.get());
  if (made) {
    tls_ = std::move(*made);
  } else {
    for (const tls::Problem& problem : made.error())
      log_error("tls", problem.message, {{"where", problem.where.to_string()}});
    tls_ = tls::Contexts::without(config);
  }
  return tls_;
}

// With the keys of sticky cookies that the policy gives as files.
std::shared_ptr<const ClusterSet> GatewayImpl::apply_upstreams(const policy::Config& config,
                                                               const tls::ContextsPtr& tls,
                                                               const tls::Material* material) {
  auto server = kubernetes::find_server(config, tls->kubernetes(), material, options_.own_mark);
  const auto is_sticky = [](const policy::Upstream& upstream) {
    return upstream.sticky.has_value();
  };
  if (std::ranges::none_of(config.upstreams, is_sticky))
    return upstreams_->apply(config.upstreams, tls, std::move(server));
  std::vector<policy::Upstream> upstreams = config.upstreams;
  for (policy::Upstream& upstream : upstreams)
    if (upstream.sticky) upstream.sticky->key = tls::text_or_file(upstream.sticky->key, material);
  return upstreams_->apply(upstreams, tls, std::move(server));
}

void GatewayImpl::apply_tls(tls::MaterialPtr material) {
  control_.run([&] { apply_tls_here(std::move(material)); });
}

void GatewayImpl::apply_tls_here(tls::MaterialPtr material) {
  if (!generation_) return;
  auto next = std::make_shared<PolicyGeneration>(*generation_);
  next->tls = make_tls(snapshot_->config(), material.get());
  next->clusters = apply_upstreams(snapshot_->config(), next->tls, material.get());
  leases_->configure(with_password(snapshot_->config().redis, material.get()), next->limits,
                     next->tls->redis(), shares_accounts(snapshot_->config()));
  auth_.refresh(material.get());
  next->ai = ai_.apply(*snapshot_, material.get());
  put_in_force(std::move(next));
  std::latch adopted(static_cast<std::ptrdiff_t>(workers_.size()));
  for (const auto& worker : workers_)
    worker->apply_tls(generation_, [&] { adopted.count_down(); });
  adopted.wait();
}

std::vector<MetricSample> GatewayImpl::certificate_samples() const {
  std::vector<MetricSample> samples;
  const auto count = tls_ ? snapshot_->config().listeners.size() : 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!tls_->listener(i)) continue;
    for (const tls::CertificateInfo& certificate : tls_->listener(i)->certificates())
      samples.push_back({.name = "sluice_tls_certificate_expiry_timestamp_seconds",
                         .help = "When a certificate in use expires, in Unix time.",
                         .type = SampleType::gauge,
                         .labels = {{"listener", snapshot_->config().listeners[i].name},
                                    {"certificate", certificate.path}},
                         .value = static_cast<double>(certificate.not_after)});
  }
  return samples;
}

void GatewayImpl::drain(std::chrono::milliseconds deadline, std::function<void()> done) {
  draining_ = true;
  // Whoever told us to go may end the process as soon as it hears that we are done.
  done = [this, told = std::move(done)] {
    ai_.flush();
    if (told) told();
  };
  if (workers_.empty()) {
    asio::post(control_.io(), std::move(done));
    return;
  }
  auto drain = std::make_shared<Drain>(control_.io(), workers_.size(), std::move(done));
  asio::post(control_.io(), [this, drain, deadline, alive = alive_] {
    drain->timer.expires_after(deadline);
    drain->timer.async_wait([this, drain, alive](boost::system::error_code error) {
      if (error || !*alive || drain->left == 0) return;
      for (const auto& worker : workers_)
        worker->abort_all();
    });
  });
  for (const auto& worker : workers_) {
    worker->drain(
        [drain, &io = control_.io()] { asio::post(io, [drain] { drain->worker_ended(); }); });
  }
}

void GatewayImpl::drain_connections(std::vector<std::uint64_t> cookies,
                                    std::chrono::milliseconds deadline) {
  std::ranges::sort(cookies);
  const auto shared = std::make_shared<const std::vector<std::uint64_t>>(std::move(cookies));
  for (const auto& worker : workers_)
    worker->drain_connections(shared, deadline);
}

std::string GatewayImpl::status_json() const {
  StatusInput input;
  input.snapshot = snapshot_;
  if (upstreams_) input.clusters = upstreams_->current();
  input.serving = serving_;
  input.draining = draining_;
  input.now_ns = steady_now();
  input.diverted = diverted_.list(input.now_ns);
  if (leases_) input.redis = leases_->server();
  input.language_models = ai_.status();
  if (access_log_) input.access_log_problem = access_log_->problem();
  for (const auto& worker : workers_)
    input.worker_connections.push_back(worker->open_connections());
  input.connections_of = [this](const std::string& name) {
    return loads_.of(name)->open.load(std::memory_order_relaxed);
  };
  return status_json_of(input);
}

}  // namespace

OperatorAccess& operator_access(Gateway& gateway) {
  return static_cast<GatewayImpl&>(gateway);  // create() makes nothing else
}

std::unique_ptr<Gateway> Gateway::create(GatewayOptions options) {
  return std::make_unique<GatewayImpl>(std::move(options));
}

}  // namespace sluice::gateway
