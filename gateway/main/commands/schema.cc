#include <array>
#include <iostream>

#include "gateway/main/command.h"
#include "gateway/main/commands/ask.h"
#include "policy/json_schema.h"

namespace sluice::control {
namespace {

constexpr std::array kOptions{
    OptionSpec{"output", "FORMAT", "json, and nothing else", 0, "json"},
};

int schema(const Arguments&) {
  std::cout << policy::json_schema();
  return kExitOk;
}

}  // namespace

const Command kSchemaCommand{
    .name = "schema",
    .words = "",
    .summary = "Print the policy file's JSON Schema (draft 2020-12), for editors and pipelines.",
    .details =
        "Made from the table that the parser checks against. What a schema cannot say (that names "
        "refer to\nsomething, that rules do not contradict each other) only `sluice check` knows.",
    .options = kOptions,
    .run = schema,
};

}  // namespace sluice::control
