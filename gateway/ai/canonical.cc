#include "gateway/ai/canonical.h"

#include <algorithm>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace sluice::gateway::ai {
namespace {

namespace json = boost::json;

// As deep as Boost's parser goes, which has a limit.
void write(const json::value& value, std::string& out) {  // NOLINT(misc-no-recursion)
  if (const json::object* object = value.if_object()) {
    std::vector<const json::key_value_pair*> members;
    for (const json::key_value_pair& member : *object)
      members.push_back(&member);
    std::ranges::sort(members, {}, [](const auto* member) { return member->key(); });
    out += '{';
    for (const json::key_value_pair* member : members) {
      if (out.back() != '{') out += ',';
      out.append(json::serialize(json::string(member->key()))).append(":");
      write(member->value(), out);
    }
    out += '}';
  } else if (const json::array* array = value.if_array()) {
    out += '[';
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (i > 0) out += ',';
      write((*array)[i], out);
    }
    out += ']';
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

std::string canonical_json(const json::value& value) {
  std::string out;
  write(value, out);
  return out;
}

}  // namespace sluice::gateway::ai
