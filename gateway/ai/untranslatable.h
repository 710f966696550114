// Collects, while a request is written, what the target has no words for.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/problem.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

class Untranslatable {
 public:
  Untranslatable(const WriteOptions& options, std::string_view target)
      : drop_(options.drop_untranslatable), target_(target) {}

  // As many are told of; callers get a kilobyte of them.
  static constexpr std::size_t kMostDropped = 256;

  // It would change the answer: refused, unless the policy says to drop it.
  void field(std::string path);
  void fields(const std::vector<std::string>& paths);
  // It only costs money or is good to know: dropped, and said so.
  void hint(std::string path) { drop(std::move(path)); }
  // Nothing helps.
  void fail(std::string path, std::string message);

  const std::optional<Problem>& problem() const { return problem_; }
  std::vector<std::string> take_dropped() { return std::move(dropped_); }

 private:
  void drop(std::string path);

  bool drop_;
  std::string_view target_;
  std::optional<Problem> problem_;
  std::vector<std::string> dropped_;
};

}  // namespace sluice::gateway::ai
