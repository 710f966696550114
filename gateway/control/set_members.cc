#include "gateway/control/set_members.h"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "gateway/control/state_file.h"

namespace sluice::gateway {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxMembersBytes = 64UL << 20;

std::string path_in(const std::string& state_dir) {
  return (std::filesystem::path(state_dir) / "set-members.json").string();
}

std::int64_t seconds_of(SetMembers::Clock::time_point time) {
  return std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
}

// A part of a character would make all of the file no UTF-8, which nobody could read again.
void cut_between_characters(std::string& text, std::size_t most) {
  if (text.size() <= most) return;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80)
    --most;
  text.resize(most);
}

// nullopt: not what save() wrote.
std::optional<std::pair<std::string, SetMembers::Member>> member_of(const json::value& value) {
  const json::object* object = value.if_object();
  if (!object) return std::nullopt;
  const auto text = [&](std::string_view key) {
    const json::value* found = object->if_contains(key);
    return found && found->is_string() ? std::string(found->as_string()) : std::string();
  };
  const auto prefix = policy::Prefix::parse(text("address"));
  if (!prefix || text("set").empty()) return std::nullopt;
  SetMembers::Member member{.prefix = *prefix, .expires = std::nullopt, .reason = text("reason")};
  const json::value* expires = object->if_contains("expires");
  if (expires && expires->is_int64())
    member.expires = SetMembers::Clock::time_point(std::chrono::seconds(expires->as_int64()));
  return std::pair(text("set"), std::move(member));
}

}  // namespace

std::expected<void, std::string> SetMembers::load(const std::string& state_dir,
                                                  Clock::time_point now) {
  sets_.clear();
  size_ = 0;
  const std::string path = path_in(state_dir);
  const auto text = read_state_file(path, kMaxMembersBytes);
  if (!text) return std::unexpected(text.error());
  if (!*text) return {};
  boost::system::error_code error;
  const json::value parsed = json::parse(**text, error);
  const json::array* members = !error && parsed.is_object() && parsed.as_object().contains("members")
                                   ? parsed.as_object().at("members").if_array()
                                   : nullptr;
  if (!members) return std::unexpected(path + ": not what sluice kept, or damaged");
  for (const json::value& value : *members) {
    if (auto member = member_of(value)) (void)add(member->first, std::move(member->second));
  }
  expire(now);
  return {};
}

std::expected<void, std::string> SetMembers::add(const std::string& set, Member member) {
  if (member.prefix.length == 0)
    return std::unexpected(member.prefix.to_string() + " is every address");
  cut_between_characters(member.reason, kMaxReason);
  OfSet& members = sets_[set];
  if (size_ >= kMost && !members.contains(member.prefix))
    return std::unexpected("the sets have " + std::to_string(kMost) +
                           " members that were added at run time, and that is the most; put them "
                           "into a set's file");
  const policy::Prefix prefix = member.prefix;
  size_ += members.insert_or_assign(prefix, std::move(member)).second ? 1 : 0;
  return {};
}

bool SetMembers::remove(const std::string& set, const policy::Prefix& prefix) {
  const auto found = sets_.find(set);
  if (found == sets_.end() || found->second.erase(prefix) == 0) return false;
  --size_;
  if (found->second.empty()) sets_.erase(found);
  return true;
}

bool SetMembers::expire(Clock::time_point now) {
  std::size_t gone = 0;
  for (auto& [name, members] : sets_) {
    gone += std::erase_if(members, [&](const auto& entry) {
      return entry.second.expires && *entry.second.expires <= now;
    });
  }
  std::erase_if(sets_, [](const auto& entry) { return entry.second.empty(); });
  size_ -= gone;
  return gone > 0;
}

std::optional<SetMembers::Clock::time_point> SetMembers::next_expiry() const {
  std::optional<Clock::time_point> next;
  for (const auto& [name, members] : sets_) {
    for (const auto& [prefix, member] : members) {
      if (member.expires && (!next || *member.expires < *next)) next = member.expires;
    }
  }
  return next;
}

std::vector<SetMembers::Member> SetMembers::list(const std::string& set) const {
  std::vector<Member> out;
  const auto found = sets_.find(set);
  if (found == sets_.end()) return out;
  for (const auto& [prefix, member] : found->second)
    out.push_back(member);
  return out;
}

std::vector<policy::PolicyFile> SetMembers::files() const {
  std::vector<policy::PolicyFile> out;
  for (const auto& [name, members] : sets_) {
    std::string text;
    for (const auto& [prefix, member] : members)
      text += prefix.to_string() + '\n';
    out.push_back({name, std::move(text), policy::PolicyFile::Kind::members});
  }
  return out;
}

std::expected<void, std::string> SetMembers::save(const std::string& state_dir) const {
  json::array members;
  for (const auto& [name, of_set] : sets_) {
    for (const auto& [prefix, member] : of_set) {
      json::object entry{{"set", name}, {"address", prefix.to_string()}};
      if (member.expires) entry["expires"] = seconds_of(*member.expires);
      if (!member.reason.empty()) entry["reason"] = member.reason;
      members.push_back(std::move(entry));
    }
  }
  const json::object all{{"version", 1}, {"members", std::move(members)}};
  return write_state_file(path_in(state_dir), json::serialize(all) + "\n");
}

}  // namespace sluice::gateway
