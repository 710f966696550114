#include "gateway/http/mirrors.h"

#include <algorithm>

#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

constexpr std::chrono::seconds kTimeout{30};
constexpr std::size_t kMaxMirrorAnswer = 64 * 1024;  // then it is not listened to any longer
constexpr std::size_t kKeep = 16;

}  // namespace

std::unique_ptr<Subrequest> Mirrors::take() {
  if (under_way_.size() >= kMaxUnderWay) return nullptr;
  if (unused_.empty()) return std::make_unique<Subrequest>(worker_);
  std::unique_ptr<Subrequest> copy = std::move(unused_.back());
  unused_.pop_back();
  return copy;
}

bool Mirrors::send(std::unique_ptr<Subrequest> copy, const RefPtr<WorkerConfig>& config,
                   std::uint32_t upstream, const policy::IpAddress& client) {
  if (!copy->start(config, upstream, client, kTimeout, kMaxMirrorAnswer, *this)) {
    give_back(std::move(copy));
    return false;
  }
  under_way_.push_back(std::move(copy));
  return true;
}

void Mirrors::give_back(std::unique_ptr<Subrequest> copy) {
  if (unused_.size() >= kKeep) return;
  copy->body().clear();
  unused_.push_back(std::move(copy));
}

void Mirrors::close() {
  under_way_.clear();
  unused_.clear();
}

// It is not destroyed from within its own call: one more than is kept waits for the next.
void Mirrors::on_subrequest_ended(Subrequest& subrequest, SubrequestEnd /*end*/) {
  const auto found = std::ranges::find(under_way_, &subrequest, &std::unique_ptr<Subrequest>::get);
  if (found == under_way_.end()) return;
  std::unique_ptr<Subrequest> ended = std::move(*found);
  *found = std::move(under_way_.back());
  under_way_.pop_back();
  ended->body().clear();
  if (unused_.size() > kKeep) unused_.pop_back();
  unused_.push_back(std::move(ended));
}

}  // namespace sluice::gateway::http
