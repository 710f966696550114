#include "gateway/http1/request_fields.h"

namespace sluice::gateway::http1 {

std::optional<std::string_view> RequestFields::field(std::string_view lower_name) const {
  const KnownField known = known_field(lower_name);
  if (known == KnownField::host) return head_.authority();  // whoever it came from
  if (known != KnownField::unknown && !head_.fields().has(known)) return std::nullopt;
  std::optional<std::string_view> value;
  for (const Field field : head_.fields()) {
    if (field.id != known) continue;
    if (known == KnownField::unknown && !equals_ignoring_case(field.name, lower_name)) continue;
    if (!value) {
      value = field.value;
      continue;
    }
    if (value->data() != joined_.data()) joined_.assign(*value);
    joined_.append(", ").append(field.value);
    value = joined_;
  }
  return value;
}

}  // namespace sluice::gateway::http1
