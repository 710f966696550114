#include <bit>
#include <sys/eventfd.h>

#include "gateway/access_log.h"

namespace sluice::gateway {

void AccessRecord::set_target(std::string_view target) {
  const auto question = target.find('?');
  query = question != std::string_view::npos;
  target = target.substr(0, question);
  // absolute-form may carry a password before the host (RFC 3986 section 3.2.1): only what follows
  // is kept.
  const auto scheme = target.starts_with('/') ? std::string_view::npos : target.find("://");
  if (scheme != std::string_view::npos) {
    const std::string_view authority =
        target.substr(scheme + 3, target.find('/', scheme + 3) - (scheme + 3));
    if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
      target.remove_prefix(scheme + 3 + at + 1);
    }
  }
  path.assign(target);
}

void AccessRecord::clear() {
  kind = Kind::request;
  way = WayIn{};
  time = {};
  connection = bytes_in = bytes_out = 0;
  request = attempts = 0;
  status = 0;
  grpc_status = -1;
  total = wait = connect = first_byte = std::chrono::nanoseconds(-1);
  client = destination = endpoint = {};
  listener.clear();
  method.clear();
  host.clear();
  path.clear();
  route.clear();
  upstream.clear();
  reason.clear();
  request_id.clear();
  trace_id.clear();
  query = false;
}

AccessRing::AccessRing(std::size_t capacity)
    : records_(std::make_unique<AccessRecord[]>(std::bit_ceil(capacity))),
      mask_(std::bit_ceil(capacity) - 1) {}

AccessRecord* AccessRing::begin() {
  const std::uint64_t head = head_.load(std::memory_order_relaxed);
  if (head - tail_seen_ > mask_) tail_seen_ = tail_.load(std::memory_order_acquire);
  if (head - tail_seen_ > mask_) {
    dropped_.store(dropped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    return nullptr;
  }
  AccessRecord* record = &records_[head & mask_];
  record->clear();
  return record;
}

void AccessRing::commit() {
  const std::uint64_t head = head_.load(std::memory_order_relaxed) + 1;
  if (wake_ == nullptr) {
    head_.store(head, std::memory_order_release);
    return;
  }
  // Sequentially consistent on both sides: either the writer sees this record before it sleeps, or
  // we see its flag.
  head_.store(head, std::memory_order_seq_cst);
  if (wake_->load(std::memory_order_seq_cst) == 0 && !(half_full() && head % 64 == 0)) return;
  wake_->store(0, std::memory_order_relaxed);
  ::eventfd_write(wake_fd_, 1);
}

const AccessRecord* AccessRing::front() const {
  const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
  return tail == head_.load(std::memory_order_seq_cst) ? nullptr : &records_[tail & mask_];
}

void AccessRing::pop() {
  tail_.store(tail_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

bool AccessRing::half_full() const {
  return head_.load(std::memory_order_relaxed) - tail_.load(std::memory_order_relaxed) > mask_ / 2;
}

}  // namespace sluice::gateway
