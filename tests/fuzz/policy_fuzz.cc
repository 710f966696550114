// Any text is a policy or gets located errors; a policy that is good compiles, and means the same
// when it is read again, and when its files come under another name.
#include <string>

#include "policy/document.h"
#include "policy/snapshot.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace sluice::policy;
using sluice::fuzz::require;

ParseResult read(const std::string& name, std::string_view text) {
  const PolicyFile file{name, std::string(text)};
  return parse({&file, 1});
}

void check(const ParseResult& result, std::string_view name) {
  require(result.config.has_value() != has_errors(result.diagnostics),
          "a configuration or an error");
  for (const Diagnostic& diagnostic : result.diagnostics) {
    require(!diagnostic.message.empty(), "an error says what is wrong");
    require(diagnostic.where.file.empty() || diagnostic.where.file == name,
            "an error is in the file that was given");
    require(diagnostic.to_string().find('\n') == std::string::npos, "an error is one line");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ParseResult once = read("p.yaml", text);
  check(once, "p.yaml");
  if (!once.config) return 0;
  const auto compiled = Snapshot::compile(std::move(*once.config));
  ParseResult again = read("q.yaml", text);
  require(again.config.has_value(), "good once, good again");
  require(compiled->fingerprint() == fingerprint(*again.config), "the same meaning");
  return 0;
}
