// What a caller got of an answer, as far as somebody wants to keep it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::gateway::ai {

class Recording {
 public:
  void begin(std::size_t most) {
    most_ = most;
    text_.clear();
    size_ = 0;
  }
  void add(std::string_view bytes) {
    size_ += bytes.size();
    text_.append(bytes.substr(0, most_ - text_.size()));
  }
  bool whole() const { return size_ == text_.size(); }
  std::size_t size() const { return size_; }
  std::string& text() { return text_; }

 private:
  std::size_t most_ = 0;
  std::size_t size_ = 0;  // of all that was added
  std::string text_;
};

}  // namespace sluice::gateway::ai
