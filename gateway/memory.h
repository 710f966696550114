// What a gateway remembers, as bytes for the one that takes its place, and as a list
// for people. Control thread.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/auth/auth_set.h"
#include "gateway/operator_access.h"
#include "gateway/upstream/kept_answers.h"
#include "policy/bans.h"
#include "policy/bans_diverted.h"
#include "policy/limits.h"
#include "policy/snapshot.h"

namespace sluice::gateway {

// Empty: nothing is worth remembering. `limits`: null leaves them out.
std::string save_memory(const policy::LimitStore* limits, const policy::BanTracker& bans,
                        const policy::DivertedSources& diverted, const KeptAnswers& answers,
                        const auth::AuthRegistry& auth);
// Into what is still fresh.
std::expected<void, std::string> restore_memory(std::string_view bytes, policy::LimitStore& limits,
                                                policy::BanTracker& bans,
                                                policy::DivertedSources& diverted,
                                                KeptAnswers& answers, auth::AuthRegistry& auth);

// `snapshot`: null before the first policy.
std::vector<OwnBan> own_bans(const policy::DivertedSources& diverted,
                             const policy::Snapshot* snapshot);

}  // namespace sluice::gateway
