// Keeps objects of one type for their next use, so that the steady state allocates nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace sluice::gateway {

// One per worker; not thread safe.
template <typename T>
class Recycler {
 public:
  explicit Recycler(std::size_t keep) : keep_(keep) {}

  template <typename... Arguments>
  std::unique_ptr<T> take(Arguments&&... arguments) {
    if (unused_.empty()) return std::make_unique<T>(std::forward<Arguments>(arguments)...);
    std::unique_ptr<T> object = std::move(unused_.back());
    unused_.pop_back();
    return object;
  }
  void give_back(std::unique_ptr<T> object) {
    if (unused_.size() < keep_) unused_.push_back(std::move(object));
  }
  // Frees what is kept, and keeps nothing from now on.
  void close() {
    keep_ = 0;
    unused_.clear();
  }

 private:
  std::size_t keep_;
  std::vector<std::unique_ptr<T>> unused_;
};

}  // namespace sluice::gateway
