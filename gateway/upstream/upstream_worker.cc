#include "gateway/upstream/upstream_worker.h"

#include <utility>

#include "gateway/upstream/worker_state.h"

namespace sluice::gateway {

UpstreamWorker::UpstreamWorker(boost::asio::io_context& io, TimerWheel& wheel, Options options)
    : state_(make_ref<UpstreamWorkerState>(io, wheel, options)) {}

UpstreamWorker::~UpstreamWorker() {
  state_->shut_down();
}

void UpstreamWorker::adopt(std::shared_ptr<const ClusterSet> clusters) {
  state_->adopt(std::move(clusters));
}

std::expected<Attempt, PickError> UpstreamWorker::begin(const Cluster& cluster,
                                                        const PickRequest& request) {
  return state_->begin(cluster, request);
}

UpstreamConnectionPtr UpstreamWorker::take_idle(const Attempt& attempt,
                                                const policy::IpAddress& client) {
  EndpointPool* pool = state_->find_pool(attempt, client);
  return pool ? pool->take(attempt.cluster()) : nullptr;
}

std::expected<UpstreamConnectionPtr, ConnectFailure> UpstreamWorker::connect(
    const Attempt& attempt, const policy::IpAddress& client, ConnectHandler& handler) {
  return state_->find_or_make_pool(attempt, client)->connect(attempt.cluster(), handler);
}

bool UpstreamWorker::move(Attempt& attempt, const PickRequest& request) {
  return state_->move(attempt, request);
}

bool UpstreamWorker::wait(const Cluster& cluster, Waiter& waiter) {
  return state_->wait(cluster, waiter);
}

void UpstreamWorker::give_back(UpstreamConnectionPtr connection) {
  EndpointPool& pool = connection->pool();
  pool.give_back(std::move(connection));
}

void UpstreamWorker::close_idle() {
  state_->close_idle();
}

void UpstreamWorker::leave_express() {
  state_->leave_express();
}

std::size_t UpstreamWorker::idle() const {
  return state_->idle();
}

std::size_t UpstreamWorker::pools() const {
  return state_->pools();
}

}  // namespace sluice::gateway
