// Reads one JSON object of a request: each field is taken by name and type, what is wrong is said
// with its path, and what nobody took is remembered.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "gateway/ai/problem.h"

namespace sluice::gateway::ai {

namespace json = boost::json;

// Of one document.
struct ReadState {
  std::optional<Problem> problem;           // the first
  std::vector<std::string> untranslatable;  // paths of fields that were not taken
  bool snake_case_too = false;              // protobuf's JSON: each member has two names

  bool failed() const { return problem.has_value(); }
  void fail(std::string path, std::string message) {
    if (!problem) problem = Problem::invalid(std::move(path), std::move(message));
  }
};

class ObjectReader {
 public:
  // `path`: "" for the document itself. A value that is no object is a failure.
  ObjectReader(ReadState& state, const json::value& value, std::string path);

  bool usable() const { return object_ != nullptr; }
  bool has(std::string_view key) const;  // and not null

  // Null: absent, or null.
  const json::value* take(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  std::string text_or(std::string_view key, std::string_view otherwise = {});
  std::string required_text(std::string_view key);
  std::optional<std::int64_t> integer(std::string_view key);
  std::optional<double> number(std::string_view key);
  std::optional<bool> boolean(std::string_view key);
  const json::array* array(std::string_view key);
  // A string, or an array of them.
  std::vector<std::string> texts(std::string_view key);
  // Says nothing that another vendor would have to be told.
  void ignore(std::string_view key) { take(key); }
  // What was not taken can only be said in this shape.
  void done();

  std::string path(std::string_view key) const;
  void fail(std::string_view key, std::string message);

 private:
  const json::object::value_type* member(std::string_view key) const;

  ReadState& state_;
  const json::object* object_ = nullptr;
  std::string path_;
  std::vector<std::string_view> taken_;
};

std::string snake_case(std::string_view key);                   // "maxTokens": "max_tokens"
std::string indexed(std::string_view path, std::size_t index);  // "messages[2]"

}  // namespace sluice::gateway::ai
