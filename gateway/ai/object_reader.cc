#include "gateway/ai/object_reader.h"

#include <algorithm>

#include <boost/json/array.hpp>

namespace sluice::gateway::ai {

ObjectReader::ObjectReader(ReadState& state, const json::value& value, std::string path)
    : state_(state), object_(value.if_object()), path_(std::move(path)) {
  if (object_ == nullptr) state_.fail(path_, "must be an object");
}

// Null: there is none.
const json::object::value_type* ObjectReader::member(std::string_view key) const {
  if (object_ == nullptr) return nullptr;
  auto found = object_->find(key);
  if (found == object_->end() && state_.snake_case_too) found = object_->find(snake_case(key));
  return found != object_->end() ? found : nullptr;
}

bool ObjectReader::has(std::string_view key) const {
  const auto* found = member(key);
  return found != nullptr && !found->value().is_null();
}

const json::value* ObjectReader::take(std::string_view key) {
  const auto* found = member(key);
  if (found == nullptr) return nullptr;
  taken_.push_back(found->key());
  return found->value().is_null() ? nullptr : &found->value();
}

std::optional<std::string> ObjectReader::text(std::string_view key) {
  const json::value* value = take(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* text = value->if_string()) return std::string(*text);
  fail(key, "must be a string");
  return std::nullopt;
}

std::string ObjectReader::text_or(std::string_view key, std::string_view otherwise) {
  return text(key).value_or(std::string(otherwise));
}

std::string ObjectReader::required_text(std::string_view key) {
  if (object_ != nullptr && !has(key)) {
    take(key);
    fail(key, "is missing");
  }
  return text_or(key);
}

std::optional<std::int64_t> ObjectReader::integer(std::string_view key) {
  const auto value = number(key);
  if (!value) return std::nullopt;
  const auto whole = static_cast<std::int64_t>(*value);
  if (static_cast<double>(whole) == *value) return whole;
  fail(key, "must be a whole number");
  return std::nullopt;
}

std::optional<double> ObjectReader::number(std::string_view key) {
  constexpr double kLimit = 9e15;  // beyond, a double does not hold every whole number
  const json::value* value = take(key);
  if (value == nullptr) return std::nullopt;
  std::optional<double> found;
  if (const auto* number = value->if_double()) found = *number;
  if (const auto* number = value->if_int64()) found = static_cast<double>(*number);
  if (const auto* number = value->if_uint64()) found = static_cast<double>(*number);
  if (found && *found >= -kLimit && *found <= kLimit) return found;
  fail(key, found ? "is out of range" : "must be a number");
  return std::nullopt;
}

std::optional<bool> ObjectReader::boolean(std::string_view key) {
  const json::value* value = take(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = value->if_bool()) return *flag;
  fail(key, "must be true or false");
  return std::nullopt;
}

const json::array* ObjectReader::array(std::string_view key) {
  const json::value* value = take(key);
  if (value == nullptr) return nullptr;
  if (const auto* array = value->if_array()) return array;
  fail(key, "must be an array");
  return nullptr;
}

std::vector<std::string> ObjectReader::texts(std::string_view key) {
  const json::value* value = take(key);
  std::vector<std::string> texts;
  if (value == nullptr) return texts;
  if (const auto* one = value->if_string()) return {std::string(*one)};
  const auto* array = value->if_array();
  if (array == nullptr) {
    fail(key, "must be a string or an array of strings");
    return texts;
  }
  for (const json::value& item : *array) {
    if (const auto* text = item.if_string())
      texts.emplace_back(*text);
    else
      fail(key, "must hold strings only");
  }
  return texts;
}

void ObjectReader::done() {
  if (object_ == nullptr) return;
  for (const auto& member : *object_) {
    if (member.value().is_null()) continue;
    if (std::ranges::find(taken_, std::string_view(member.key())) == taken_.end())
      state_.untranslatable.push_back(path(member.key()));
  }
}

std::string ObjectReader::path(std::string_view key) const {
  std::string full = path_;
  if (!full.empty()) full += '.';
  return full.append(key);
}

void ObjectReader::fail(std::string_view key, std::string message) {
  state_.fail(path(key), std::move(message));
}

std::string snake_case(std::string_view key) {
  std::string out;
  for (const char c : key) {
    const bool capital = c >= 'A' && c <= 'Z';
    if (capital) out.push_back('_');
    out.push_back(capital ? static_cast<char>(c + ('a' - 'A')) : c);
  }
  return out;
}

std::string indexed(std::string_view path, std::size_t index) {
  return std::string(path) + '[' + std::to_string(index) + ']';
}

}  // namespace sluice::gateway::ai
