#include "gateway/main/policy_commands.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "gateway/control/policy_source.h"
#include "gateway/control/policy_writer.h"
#include "gateway/main/admin_commands.h"
#include "gateway/main/policy_reloader.h"

namespace sluice::control {

namespace json = boost::json;

std::expected<std::vector<policy::PolicyFile>, std::string> files_of(const json::object& request) {
  const json::value* list = request.if_contains("files");
  if (list == nullptr || !list->is_array() || list->as_array().empty())
    return std::unexpected("the request brings no policy");
  std::vector<policy::PolicyFile> files;
  for (const auto& value : list->as_array()) {
    if (!value.is_array() || value.as_array().size() != 2 || !value.as_array()[0].is_string() ||
        !value.as_array()[1].is_string())
      return std::unexpected("files: pairs of name and text");
    files.push_back({std::string(value.as_array()[0].as_string()),
                     std::string(value.as_array()[1].as_string())});
  }
  return files;
}

json::array files_to_json(const std::vector<policy::PolicyFile>& files) {
  json::array out;
  for (const auto& file : files)
    out.push_back(json::array{file.name, file.text});
  return out;
}

policy::Diagnostics named_as_given(policy::Diagnostics diagnostics, const std::string& path,
                                   const std::vector<policy::PolicyFile>& given) {
  namespace fs = std::filesystem;
  for (auto& diagnostic : diagnostics) {
    std::string& file = diagnostic.where.file;
    const auto original = std::ranges::find_if(given, [&](const policy::PolicyFile& one) {
      return file == path || file == fs::path(path) / fs::path(one.name).filename();
    });
    if (original != given.end()) file = original->name;
  }
  return diagnostics;
}

json::object handle_plan(const CompiledPolicy& running, const std::string& path,
                         std::vector<policy::PolicyFile> members, const json::object& request,
                         PlanContext context) {
  const auto given = files_of(request);
  if (!given) return admin_error(given.error());
  auto files = path.empty() ? given : gateway::placed_at(path, *given);
  if (!files) return admin_error(files.error());
  std::ranges::move(members, std::back_inserter(*files));
  const auto next = compile_policy(std::move(*files), gateway::read_set_file);
  if (!next) {
    const policy::Diagnostics wrong = named_as_given(next.error(), path, *given);
    json::object refused = admin_error(to_text(wrong));
    refused["diagnostics"] = to_json(wrong);
    return refused;
  }
  if (const json::value* ssh = request.if_contains("ssh"); ssh != nullptr && ssh->is_string()) {
    if (const auto connection = parse_ssh_connection(std::string(ssh->as_string())))
      context.operators.push_back(*connection);
  }
  return make_plan(running, *next, context);
}

}  // namespace sluice::control
