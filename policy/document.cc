#include "policy/document.h"

#include <algorithm>
#include <string>

#include "policy/config_builder.h"
#include "policy/schema.h"
#include "policy/schema_check.h"
#include "policy/sets.h"
#include "policy/validate.h"
#include "policy/yaml_tree.h"

namespace sluice::policy {

namespace {

// False: too large in all, and nothing else was looked at.
bool check_size(std::span<const PolicyFile> files, Reporter& reporter) {
  std::size_t bytes = 0;
  for (std::uint32_t i = 0; i < files.size(); ++i) {
    bytes += files[i].text.size();
    if (bytes <= kMaxPolicyBytes) continue;
    reporter.error(Place{i, 0, 0}, "the policy is too large", "at most 8 MiB in all files");
    return false;
  }
  return true;
}

Node read_files(std::span<const PolicyFile> files, Reporter& reporter) {
  std::size_t node_budget = kMaxPolicyNodes;
  Node root;
  for (std::uint32_t i = 0; i < files.size(); ++i) {
    Node more = parse_yaml(files[i].text, i, node_budget, reporter);
    if (i == 0) {
      root = std::move(more);
    } else {
      merge(root, std::move(more), schema());
    }
  }
  return root;
}

}  // namespace

ParseResult parse(std::span<const PolicyFile> files, const SetReader& read_set) {
  Reporter reporter(files);
  ParseResult result;
  const auto all = files;
  const auto side = std::ranges::find_if(
      files, [](const PolicyFile& file) { return file.kind != PolicyFile::Kind::policy; });
  files = files.first(static_cast<std::size_t>(side - files.begin()));
  if (files.empty()) {
    reporter.error(Location{}, "the policy is empty", "a directory needs at least one file");
  } else if (check_size(files, reporter)) {
    const Node root = read_files(files, reporter);
    // A file that broke off would only make follow-on errors.
    if (!reporter.has_errors()) {
      check(root, schema(), reporter);
      Config config = build_config(root, reporter);
      complete(config);
      load_sets(config, all, read_set, reporter);
      cross_check(config, reporter);
      if (!reporter.has_errors()) result.config = std::move(config);
    }
  }
  result.diagnostics = reporter.take();
  return result;
}

}  // namespace sluice::policy
