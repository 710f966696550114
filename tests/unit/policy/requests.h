// Requests for tests of matchers.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "policy/request.h"

namespace sluice::policy {

class MapFields final : public FieldSource {
 public:
  using Map = std::map<std::string, std::string, std::less<>>;
  explicit MapFields(Map fields) : fields_(std::move(fields)) {}

  std::optional<std::string_view> field(std::string_view lower_name) const override {
    const auto found = fields_.find(lower_name);
    if (found == fields_.end()) return std::nullopt;
    return found->second;
  }

 private:
  Map fields_;
};

inline RequestView request_of(std::string_view host, std::string_view path) {
  RequestView request;
  request.method = "GET";
  request.host = host;
  request.path = path;
  return request;
}

}  // namespace sluice::policy
