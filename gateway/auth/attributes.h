// What is known of a caller once it is authenticated: claims of its token, attributes of its key.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/request.h"

namespace sluice::gateway::auth {

// Used again from request to request; allocates only while it grows. Not thread safe.
class AttributeStore final : public policy::AttributeSource {
 public:
  void clear() {
    memory_.clear();
    entries_.clear();
  }
  bool empty() const { return entries_.empty(); }
  // The first one of a name counts.
  void add(std::string_view name, std::string_view value) {
    entries_.push_back({memory_.size(), name.size(), value.size(), Kind::text});
    memory_.append(name).append(value);
  }
  // The same of a list: `joined` for people, then each element with add_element().
  void add_list(std::string_view name, std::string_view joined) {
    add(name, joined);
    entries_.back().kind = Kind::list;
  }
  void add_element(std::string_view name, std::string_view element) {
    add(name, element);
    entries_.back().kind = Kind::element;
  }
  std::optional<std::string_view> attribute(std::string_view name) const override {
    const Entry* found = find(name);
    return found == nullptr ? std::nullopt : std::optional(value_of(*found));
  }
  // Elements of a list are never taken apart at their spaces: "not admins" is not "admins".
  bool has(std::string_view name, std::string_view element) const override {
    const Entry* found = find(name);
    if (found == nullptr) return false;
    if (found->kind == Kind::text) return has_word(value_of(*found), element);
    const Entry* const end = entries_.data() + entries_.size();
    for (++found; found != end && found->kind == Kind::element; ++found) {
      if (value_of(*found) == element) return true;
    }
    return false;
  }

 private:
  enum class Kind : std::uint8_t { text, list, element };
  struct Entry {
    std::size_t at, name, value;
    Kind kind;
  };

  std::string_view value_of(const Entry& entry) const {
    return {memory_.data() + entry.at + entry.name, entry.value};
  }
  const Entry* find(std::string_view name) const {
    for (const Entry& entry : entries_) {
      if (entry.kind != Kind::element && name_of(entry) == name) return &entry;
    }
    return nullptr;
  }
  std::string_view name_of(const Entry& entry) const {
    return {memory_.data() + entry.at, entry.name};
  }
  static bool has_word(std::string_view text, std::string_view word) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find(' '), text.size());
      if (text.substr(0, end) == word) return true;
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return false;
  }

  std::string memory_;
  std::vector<Entry> entries_;
};

}  // namespace sluice::gateway::auth
