#include "gateway/ai/proxy/model_list.h"

#include <algorithm>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/proxy/answer_reader.h"

namespace sluice::gateway::ai {
namespace {

json::object entry_of(Shape shape, std::string_view name) {
  switch (shape) {
    case Shape::anthropic:
      return {{"type", "model"},
              {"id", name},
              {"display_name", name},
              {"created_at", "1970-01-01T00:00:00Z"}};
    case Shape::gemini:
      return {{"name", "models/" + std::string(name)},
              {"displayName", name},
              {"supportedGenerationMethods", {"generateContent", "embedContent"}}};
    case Shape::openai:
      break;
  }
  return {{"id", name}, {"object", "model"}, {"created", 0}, {"owned_by", "sluice"}};
}

json::object list_of(Shape shape, const std::vector<std::string_view>& names) {
  json::array entries;
  for (const std::string_view name : names)
    entries.push_back(entry_of(shape, name));
  switch (shape) {
    case Shape::anthropic: {
      json::object list{{"has_more", false}, {"first_id", nullptr}, {"last_id", nullptr}};
      if (!names.empty()) {
        list["first_id"] = names.front();
        list["last_id"] = names.back();
      }
      list["data"] = std::move(entries);
      return list;
    }
    case Shape::gemini:
      return {{"models", std::move(entries)}};
    case Shape::openai:
      break;
  }
  return {{"object", "list"}, {"data", std::move(entries)}};
}

}  // namespace

http::Mediator::Answer model_list(const Endpoint& endpoint,
                                  const std::vector<std::string_view>& names) {
  http::Mediator::Answer answer{.status = 200, .lines = "content-type: application/json\r\n"};
  if (endpoint.model.empty()) {
    answer.body = json::serialize(list_of(endpoint.shape, names));
    return answer;
  }
  if (std::ranges::find(names, endpoint.model) == names.end()) {
    return problem_answer(endpoint.shape, {ProblemKind::not_found,
                                           "there is no model " + std::string(endpoint.model)});
  }
  answer.body = json::serialize(entry_of(endpoint.shape, endpoint.model));
  return answer;
}

}  // namespace sluice::gateway::ai
