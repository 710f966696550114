// A JSON object as it was written: its members by their places, so that one can be read or replaced
// and all the rest goes on byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::gateway::ai {

class JsonText {
 public:
  // Nullopt: no JSON object, or one with a repeated key at its top level, also but for case, which
  // two readers could take in two ways. `text` must outlive this.
  static std::optional<JsonText> scan(std::string_view text);

  // The value as written; nullopt: there is none.
  std::optional<std::string_view> find(std::string_view key) const;
  // The value where it is a string; nullopt: there is none, or it is something else.
  std::optional<std::string> string(std::string_view key) const;
  bool is_true(std::string_view key) const { return find(key) == "true"; }
  std::optional<std::int64_t> integer(std::string_view key) const;

  // Puts `value`, JSON itself, in the place of the member's, or adds the member.
  void set(std::string_view key, std::string value);
  bool changed() const { return !edits_.empty(); }
  std::string text() const;  // with what was set

 private:
  struct Member {
    std::string_view key;  // as written, between its quotes
    bool plain = true;     // ASCII without escapes
    std::size_t at = 0;
    std::size_t size = 0;
  };
  struct Edit {
    std::size_t at = 0;
    std::size_t size = 0;
    std::string text;
  };

  const Member* member(std::string_view key) const;
  bool repeats(const Member& key) const;
  bool repeats_any() const;

  std::string_view text_;
  std::size_t first_ = 0;  // behind the opening brace
  std::vector<Member> members_;
  bool plain_ = true;        // all keys are
  std::vector<Edit> edits_;  // in the order of their places
};

// A string as JSON.
std::string json_string(std::string_view text);

// Decimal digits, and a minus before them, and nothing else.
std::optional<std::int64_t> whole_number(std::string_view text);

}  // namespace sluice::gateway::ai
