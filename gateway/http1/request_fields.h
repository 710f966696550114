// A request head as the policy's matchers see it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gateway/http1/head.h"
#include "policy/request.h"

namespace sluice::gateway::http1 {

class RequestFields final : public policy::FieldSource {
 public:
  // `joined` is memory for fields of several lines; all must live as long as this does.
  RequestFields(const RequestHead& head, std::string& joined) : head_(head), joined_(joined) {}

  std::optional<std::string_view> field(std::string_view lower_name) const override;

 private:
  const RequestHead& head_;
  std::string& joined_;
};

}  // namespace sluice::gateway::http1
