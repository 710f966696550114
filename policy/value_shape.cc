#include "policy/value_shape.h"

#include <limits>

#include "policy/units.h"

namespace sluice::policy {

ValueShape shape_of(Type type) {
  switch (type) {
    case Type::object:
      return {"map", "", false};
    case Type::text:
      return {"text", "", true, true, true, true};
    case Type::name:
      return {"name", "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", true, true, true};
    case Type::word:
      return {"word", "", true, true};
    case Type::boolean:
      return {"true or false", "", false, false, false, true};
    case Type::integer:
      return {"whole number", "^0x[0-9a-fA-F]+$", true, true};
    case Type::number:
      return {"number", "", false, true, true};
    case Type::duration:
      return {"duration", "^(0|[1-9][0-9]*)(us|ms|s|m|h|d)$"};
    case Type::rate:
      return {"rate", "^[1-9][0-9]*/[smhd]$"};
    case Type::percent:
      return {"percentage", "^(100|[1-9]?[0-9])%$"};
    case Type::share:
      return {"percentage", "^(100|[1-9]?[0-9](\\.[0-9]+)?)%$"};
    case Type::prefix:
      return {"address or prefix", "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"};
    case Type::socket_address:
      return {"address:port", "^(\\[[0-9a-fA-F:.]+\\]|[0-9.]+):[1-9][0-9]{0,4}$"};
    case Type::host_port:
      return {"name:port", "^[A-Za-z0-9._-]+:[1-9][0-9]{0,4}$"};
    case Type::port:
      return {"port", "", false, true};
    case Type::port_range:
      return {"port or range", "^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$", true, true};
    case Type::host:
      return {"host", "^(\\*\\.)?[A-Za-z0-9._-]+$|^\\[[0-9a-fA-F:.]+\\]$"};
    case Type::path:
      return {"path", "^/[^?# ]*$"};
    case Type::request_target:
      return {"path and query", "^/[^# ]*$"};
    case Type::token:
      return {"HTTP name", "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$", true, true, true, true};
    case Type::regex:
      return {"regular expression", "", true, true, true};
    case Type::size:
      return {"size", "^(0|[1-9][0-9]*)(B|KiB|MiB|GiB)$"};
    case Type::cgroup:
      return {"cgroup path", "^/.+$"};
    case Type::action:
      return {"status or upstream", "", true, true};
    case Type::ip_protocol:
      return {"IP protocol", "^(tcp|udp|sctp|icmp|icmpv6)$", true, true};
  }
  return {"value", ""};
}

bool needs_some(const Field& list) {
  return list.required || list.choice || (list.type != Type::object && list.fallback.empty());
}

namespace {

std::string shown(Type type, std::int64_t bound) {
  if (type == Type::duration) return format_duration(Duration(bound));
  if (type == Type::size) return format_size(static_cast<std::uint64_t>(bound));
  return std::to_string(bound);
}

}  // namespace

std::string range_of(const Field& field) {
  switch (field.type) {
    case Type::percent:
    case Type::share:
      return "0% to 100%";
    case Type::port:
    case Type::port_range:
      return "1 to 65535";
    case Type::integer:
    case Type::number:
    case Type::duration:
    case Type::size:
      break;
    default:
      return "";
  }
  if (field.max == std::numeric_limits<std::int64_t>::max()) {
    return field.min > 0 ? "at least " + shown(field.type, field.min) : "";
  }
  if (field.min == field.max) return shown(field.type, field.min);
  return shown(field.type, field.min) + " to " + shown(field.type, field.max);
}

}  // namespace sluice::policy
