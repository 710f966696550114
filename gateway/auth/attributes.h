// What is known of a caller once it is authenticated: claims of its token, attributes of its key.
#pragma once

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
    entries_.push_back({memory_.size(), name.size(), value.size()});
    memory_.append(name).append(value);
  }
  std::optional<std::string_view> attribute(std::string_view name) const override {
    for (const Entry& entry : entries_) {
      const std::string_view text(memory_.data() + entry.at, entry.name + entry.value);
      if (text.substr(0, entry.name) == name) return text.substr(entry.name);
    }
    return std::nullopt;
  }

 private:
  struct Entry {
    std::size_t at, name, value;
  };
  std::string memory_;
  std::vector<Entry> entries_;
};

}  // namespace sluice::gateway::auth
