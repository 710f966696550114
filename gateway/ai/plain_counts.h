// Token counts as nearly all answers write them: an object of whole numbers and nulls, and objects
// of such. Read without a tree of values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::gateway::ai {

class PlainCounts {
 public:
  // All of it, or an object within it.
  class Object {
   public:
    enum class Kind : std::uint8_t { nothing, null, number, object };
    struct Value {
      Kind kind = Kind::nothing;
      std::int64_t number = 0;
    };
    Value find(std::string_view key) const;
    bool contains(std::string_view key) const { return find(key).kind != Kind::nothing; }
    std::optional<Object> object(std::string_view key) const;

   private:
    friend class PlainCounts;
    Object(const PlainCounts& counts, std::size_t holder) : counts_(&counts), holder_(holder) {}
    const PlainCounts* counts_;
    std::size_t holder_;
  };

  PlainCounts() = default;
  PlainCounts(const PlainCounts&) = delete;
  PlainCounts& operator=(const PlainCounts&) = delete;

  // False: it is something else, which may be JSON all the same. `text` must outlive this.
  bool read(std::string_view text);
  Object all() const { return {*this, kNone}; }

 private:
  static constexpr std::size_t kMost = 24;
  static constexpr std::size_t kNone = kMost;
  struct Entry {
    const char* key;
    std::size_t size;  // of the key
    std::size_t holder;
    std::int64_t number;
    Object::Kind kind;
  };

  std::size_t find(std::string_view key, std::size_t holder) const;  // kNone: it is not there

  class Reader;
  std::size_t size_ = 0;
  std::array<Entry, kMost> entries_;  // filled up to size_ only
};

}  // namespace sluice::gateway::ai
