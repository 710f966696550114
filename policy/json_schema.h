// The policy file's JSON Schema, for editors and pipelines; made from the table that the parser
// checks against.
#pragma once

#include <string>

namespace sluice::policy {

// Draft 2020-12, indented, with a final line end. What a schema cannot say (that names refer to
// something, that rules do not contradict each other) only `sluice check` knows.
std::string json_schema();

}  // namespace sluice::policy
