#include "gateway/redis/limit_leases.h"

#include <array>
#include <cstdio>
#include <hiredis/hiredis.h>
#include <random>
#include <utility>

#include <boost/asio/post.hpp>

#include "gateway/clocks.h"
#include "gateway/log.h"

namespace sluice::gateway {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr auto kHeartbeat = 1s;
constexpr std::string_view kGatewayTime = "5000000";  // µs without a heartbeat: gone

// GCRA over Redis' own clock, so that gateways need not agree on the time. All times in
// microseconds, with decimals. KEYS[1]: the theoretical arrival time. ARGV: interval, tolerance,
// wanted, charged (let in already, whatever the bucket says), 1: all or nothing, 1: begin with an
// empty bucket. Returns what was granted, when the next one is there, and how far the key has run
// ahead.
constexpr std::string_view kScript = R"lua(
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local wanted, charged = tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now end
if ARGV[6] == '1' and tat < now + tolerance then tat = now + tolerance end
tat = tat + charged * interval
local granted = math.floor((tolerance - (tat - now)) / interval + 0.000001)
if granted > wanted then granted = wanted end
if granted < 0 or (ARGV[5] == '1' and granted < wanted) then granted = 0 end
tat = tat + granted * interval
local left = math.ceil((tat - now) / 1000) + 1
redis.call('SET', KEYS[1], string.format('%.3f', tat), 'PX', left)
local next = tat + interval - now - tolerance
if next < 0 then next = 0 end
return {granted, math.ceil(next), math.ceil(tat - now)}
)lua";

constexpr std::string_view kRegisterScript = R"lua(
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('EXPIRE', KEYS[1], 3600)
return redis.call('ZCARD', KEYS[1])
)lua";

std::string random_id() {
  std::random_device device;
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%08x%08x", device(), device());
  return text.data();
}

std::string microseconds(std::uint64_t ns) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%llu.%03u", static_cast<unsigned long long>(ns / 1000),
                static_cast<unsigned>(ns % 1000));
  return text.data();
}

// The script's answer.
struct Answer {
  std::uint32_t granted = 0;
  std::uint64_t next_ns = 0;
  std::uint64_t ahead_ns = 0;
};

std::optional<Answer> answer_in(const redisReply* reply) {
  if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) return {};
  std::array<std::uint64_t, 3> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const redisReply* element = reply->element[i];
    if (element->type != REDIS_REPLY_INTEGER || element->integer < 0) return {};
    numbers[i] = static_cast<std::uint64_t>(element->integer);
  }
  if (numbers[0] > 0x7fffffff) return {};
  return Answer{.granted = static_cast<std::uint32_t>(numbers[0]),
                .next_ns = numbers[1] * 1000,
                .ahead_ns = numbers[2] * 1000};
}

bool no_script(const redisReply* reply) {
  return reply != nullptr && reply->type == REDIS_REPLY_ERROR &&
         std::string_view(reply->str, reply->len).starts_with("NOSCRIPT");
}

// Within the prefix.
std::string limit_key(const policy::ClusterTable& table, std::uint64_t key) {
  std::array<char, 20> hash{};
  std::snprintf(hash.data(), hash.size(), ":%016llx", static_cast<unsigned long long>(key));
  return "limit:" + table.name() + hash.data();
}

void answer(const std::shared_ptr<LimitDecision>& decision, std::optional<bool> allowed) {
  asio::post(*decision->worker, [decision, allowed] {
    if (decision->done) return std::exchange(decision->done, nullptr)(allowed);
    if (allowed.value_or(false) && decision->unwanted) decision->unwanted();
  });
}

}  // namespace

LimitLeases::LimitLeases(asio::io_context& control, std::uint32_t own_mark)
    : control_(control), own_mark_(own_mark), gateway_id_(random_id()), heartbeat_(control) {}

LimitLeases::~LimitLeases() {
  close();
}

void LimitLeases::close() {
  *alive_ = false;
  heartbeat_.cancel();
  client_.reset();
}

void LimitLeases::configure(const std::optional<policy::RedisConfig>& config,
                            const std::vector<policy::LimitHandle>& limits,
                            const tls::ClientContextPtr& tls, bool accounts) {
  accounts_ = accounts;
  tables_.clear();
  for (const policy::LimitHandle& limit : limits) {
    if (!limit.is_cluster()) continue;
    tables_.push_back(limit.cluster());
    if (in_use_) {
      limit.cluster()->found();
    } else {
      limit.cluster()->lost(gateways());
    }
  }
  const bool wanted = config && (accounts || !tables_.empty());
  const bool same = config_ && config && config_->address == config->address && tls_ == tls &&
                    config_->name == config->name &&
                    config_->database == config->database &&
                    config_->username == config->username && config_->prefix == config->prefix;
  config_ = config;
  tls_ = tls;
  if (client_ && wanted && same) return client_->use_password(config->password);
  client_.reset();
  if (std::exchange(in_use_, false)) {
    for (const auto& table : tables_)
      table->lost(gateways());
  }
  if (!wanted) return heartbeat_.cancel(), void();
  client_ = std::make_unique<redis::Client>(
      control_, *config, redis::ClientOptions{.own_mark = own_mark_, .tls = tls},
      redis::Client::Events{.up = [this] { up(); },
                            .down = [this](const std::string& reason) { down(reason); }});
}

std::optional<LimitLeases::Server> LimitLeases::server() const {
  if (!client_) return std::nullopt;
  return Server{
      .host = config_->name.empty() ? config_->address.address.to_string() : config_->name,
      .address = client_->address(),
      .connected = client_->ready()};
}

void LimitLeases::up() {
  const auto load = [this](std::string_view script, std::string& sha) {
    client_->command(std::array<std::string_view, 3>{"SCRIPT", "LOAD", script},
                     [&sha](const redisReply* reply) {
                       if (reply == nullptr || reply->type != REDIS_REPLY_STRING) return;
                       sha.assign(reply->str, reply->len);
                     });
  };
  load(kScript, script_sha_);
  load(redis::kTakeScript, take_sha_);
  load(redis::kChargeScript, charge_sha_);
  register_gateway();
}

// Says that we are there, and hears how many are.
void LimitLeases::register_gateway() {
  if (!client_ || !client_->ready()) return;
  const std::string key = config_->prefix + ":gateways";
  client_->command(
      std::array<std::string_view, 6>{"EVAL", kRegisterScript, "1", key, gateway_id_, kGatewayTime},
      [this](const redisReply* reply) {
        if (reply == nullptr) return;  // the connection's end; down() says more
        if (reply->type != REDIS_REPLY_INTEGER || script_sha_.empty()) {
          return log_error("redis", "scripts are refused; limits of scope cluster stay with on_loss",
                           {{"reason", reply->type == REDIS_REPLY_ERROR
                                           ? std::string(reply->str, reply->len)
                                           : std::string("no script")}});
        }
        gateways_ = static_cast<std::uint32_t>(std::max<long long>(reply->integer, 1));
        if (std::exchange(in_use_, true)) return;
        log_info("redis", "limits of scope cluster are shared", {{"gateways", gateways()}});
        for (const auto& table : tables_)
          table->found();
        for (const auto& [account, charge] : std::exchange(waiting_, {}))
          evaluate(charge);
      });
  heartbeat_.expires_after(kHeartbeat);
  heartbeat_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (!error && *alive) register_gateway();
  });
}

void LimitLeases::down(const std::string& reason) {
  heartbeat_.cancel();
  for (const auto& table : tables_)
    table->lost(gateways());
  if (std::exchange(in_use_, false) || losses_ == 0) {
    ++losses_;
    log_warn("redis", "cannot be asked; limits of scope cluster follow on_loss",
             {{"reason", reason}, {"gateways", gateways()}});
  }
}

void LimitLeases::ask(const std::shared_ptr<policy::ClusterTable>& table, std::uint64_t key) {
  push({.table = table, .keys = {.own = key}, .cost = 0, .decision = nullptr});
}

void LimitLeases::decide(const std::shared_ptr<policy::ClusterTable>& table,
                         const policy::LimitKeys& keys, std::uint32_t cost,
                         std::shared_ptr<LimitDecision> decision) {
  push({.table = table, .keys = keys, .cost = cost, .decision = std::move(decision)});
}

void LimitLeases::settle(const policy::ClusterTable& table, std::uint64_t key,
                         std::uint64_t estimated, std::uint64_t used) {
  const std::int64_t more = static_cast<std::int64_t>(used) - static_cast<std::int64_t>(estimated);
  if (more == 0) return;
  charge({{.key = limit_key(table, key == 0 ? 1 : key),
           .interval_ns = table.parameters().emission_interval,
           .more = more}});
}

void LimitLeases::take(std::shared_ptr<SharedTake> take) {
  const std::scoped_lock lock(mutex_);
  takes_.push_back(std::move(take));
  post_queue();
}

void LimitLeases::charge(std::vector<SharedCharge> charges) {
  if (charges.empty()) return;
  const std::scoped_lock lock(mutex_);
  for (SharedCharge& one : charges)
    charges_.push_back(std::move(one));
  post_queue();
}

void LimitLeases::push(Item item) {
  const std::scoped_lock lock(mutex_);
  queue_.push_back(std::move(item));
  post_queue();
}

void LimitLeases::post_queue() {
  if (std::exchange(posted_, true)) return;
  asio::post(control_, [this, alive = alive_] {
    if (*alive) send_all();
  });
}

void LimitLeases::send_all() {
  std::vector<Item> items;
  std::vector<std::shared_ptr<SharedTake>> takes;
  std::vector<SharedCharge> charges;
  {
    const std::scoped_lock lock(mutex_);
    items.swap(queue_);
    takes.swap(takes_);
    charges.swap(charges_);
    posted_ = false;
  }
  for (const SharedCharge& charge : charges)
    evaluate(charge);
  for (const auto& take : takes)
    evaluate(take);
  for (const Item& item : items) {
    if (item.decision) {
      decide(item);
    } else {
      lease(item);
    }
  }
}

// A charge that goes unanswered may have been made: what gives back is not said twice.
void LimitLeases::evaluate(const SharedCharge& charge) {
  if (!client_ || !in_use_) return keep(charge);
  send(redis::charge_words(charge, charge_sha_, config_->prefix),
       [this, charge](const redisReply* reply) {
         if (reply == nullptr && charge.more > 0) keep(charge);
       });
}

void LimitLeases::keep(const SharedCharge& charge) {
  if (!config_ || (waiting_.size() >= kMostWaiting && !waiting_.contains(charge.key))) return;
  const auto [place, first] = waiting_.try_emplace(charge.key, charge);
  if (first) return;
  place->second.more += charge.more;
  place->second.held += charge.held;
}

// Nobody waits any more: it was not the call that took it.
void LimitLeases::evaluate(const std::shared_ptr<SharedTake>& take) {
  const auto answer = [this, take](std::optional<SharedVerdict> verdict) {
    asio::post(*take->worker, [this, take, verdict = std::move(verdict)]() mutable {
      if (take->done) return std::exchange(take->done, nullptr)(std::move(verdict));
      if (verdict && verdict->refused == SharedVerdict::kNone) charge(redis::given_back(*take));
    });
  };
  if (!client_ || !in_use_) return answer(std::nullopt);
  ++decisions_;
  send(redis::take_words(*take, take_sha_, config_->prefix),
       [take, answer](const redisReply* reply) { answer(redis::verdict_in(*take, reply)); });
}

void LimitLeases::send(const redis::Words& words, redis::Client::Done done) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  client_->command(views, [this, done = std::move(done)](const redisReply* reply) {
    if (no_script(reply)) up();  // somebody flushed the scripts
    done(reply);
  });
}

void LimitLeases::evaluate(const Item& item, const policy::LeaseRequest& request,
                           bool all_or_nothing, redis::Client::Done done) {
  if (!client_ || !in_use_) return done(nullptr);
  const std::string key = config_->prefix + ":" + limit_key(*item.table, request.key);
  const policy::GcraParameters& gcra = item.table->parameters();
  const std::string interval = microseconds(gcra.emission_interval);
  const std::string tolerance = microseconds(gcra.tolerance);
  const std::string wanted = std::to_string(request.wanted);
  const std::string charged = std::to_string(request.charged);
  client_->command(std::array<std::string_view, 10>{"EVALSHA", script_sha_, "1", key, interval,
                                                    tolerance, wanted, charged,
                                                    all_or_nothing ? "1" : "0",
                                                    request.empty_bucket ? "1" : "0"},
                   [this, done = std::move(done)](const redisReply* reply) {
                     if (no_script(reply)) up();  // somebody flushed the scripts
                     done(reply);
                   });
}

void LimitLeases::lease(const Item& item) {
  const policy::LeaseRequest request = item.table->begin_lease(item.keys.own, steady_now());
  ++leases_;
  evaluate(item, request, false, [table = item.table, request](const redisReply* reply) {
    const auto said = answer_in(reply);
    if (!said) return table->failed(request);
    table->granted(request.key, said->granted, said->next_ns, steady_now());
  });
}

void LimitLeases::decide(const Item& item) {
  ++decisions_;
  const std::uint64_t key = item.keys.own == 0 ? 1 : item.keys.own;
  evaluate(item, policy::LeaseRequest{.key = key, .wanted = item.cost}, true,
           [item](const redisReply* reply) {
             const auto said = answer_in(reply);
             if (!said) return answer(item.decision, std::nullopt);
             const bool allowed = said->granted >= item.cost;
             item.table->decided(item.keys, allowed, item.cost, said->ahead_ns, steady_now());
             answer(item.decision, allowed);
           });
}

std::vector<MetricSample> LimitLeases::samples() const {
  if (!config_) return {};
  const redis::ClientStats stats = client_ ? client_->stats() : redis::ClientStats{};
  const auto counter = [](const char* name, const char* help, std::uint64_t value) {
    return MetricSample{name, help, SampleType::counter, {}, static_cast<double>(value)};
  };
  return {
      {"sluice_redis_up", "1 while limits of scope cluster are counted in Redis, 0 while they follow on_loss.",
       SampleType::gauge, {}, in_use_ ? 1.0 : 0.0},
      {"sluice_redis_gateways", "Gateways that share limits, as last known.", SampleType::gauge, {},
       static_cast<double>(gateways())},
      counter("sluice_redis_losses_total", "Times that Redis could no longer be asked.", losses_),
      counter("sluice_redis_connection_failures_total",
              "Connections to Redis that failed or ended.", stats.failures),
      counter("sluice_redis_commands_total", "Commands sent to Redis.", stats.commands),
      counter("sluice_limit_leases_total", "Shares of limits asked for in Redis.", leases_),
      counter("sluice_limit_decisions_total", "Requests that Redis itself was asked about.",
              decisions_),
  };
}

}  // namespace sluice::gateway
