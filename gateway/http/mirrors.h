// Copies of requests for a shadow upstream, sent after the real one and forgotten: whatever becomes
// of a copy, the request that it was made of does not notice.
#pragma once

#include <memory>
#include <vector>

#include "gateway/http/subrequest.h"

namespace sluice::gateway::http {

// One per worker; its thread only.
class Mirrors final : private SubrequestUser {
 public:
  static constexpr std::size_t kMaxBody = 1024 * 1024;  // larger requests are not mirrored
  static constexpr std::size_t kMaxUnderWay = 256;      // beyond, copies are dropped

  explicit Mirrors(Worker& worker) : worker_(worker) {}

  // For a copy to be written into. Null: too many are under way.
  std::unique_ptr<Subrequest> take();
  // False: the shadow cannot be reached now.
  bool send(std::unique_ptr<Subrequest> copy, const RefPtr<WorkerConfig>& config,
            std::uint32_t upstream, const policy::IpAddress& client);
  void give_back(std::unique_ptr<Subrequest> copy);
  void close();

 private:
  void on_subrequest_ended(Subrequest& subrequest, SubrequestEnd end) override;

  Worker& worker_;
  std::vector<std::unique_ptr<Subrequest>> under_way_;
  std::vector<std::unique_ptr<Subrequest>> unused_;
};

}  // namespace sluice::gateway::http
