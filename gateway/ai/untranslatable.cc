#include "gateway/ai/untranslatable.h"

#include <algorithm>

namespace sluice::gateway::ai {

void Untranslatable::field(std::string path) {
  if (!drop_) {
    fail(std::move(path), "cannot be expressed for " + std::string(target_));
    return;
  }
  drop(std::move(path));
}

void Untranslatable::drop(std::string path) {
  if (dropped_.size() < kMostDropped && std::ranges::find(dropped_, path) == dropped_.end())
    dropped_.push_back(std::move(path));
}

void Untranslatable::fields(const std::vector<std::string>& paths) {
  for (const std::string& path : paths)
    field(path);
}

void Untranslatable::fail(std::string path, std::string message) {
  if (!problem_) problem_ = Problem::invalid(std::move(path), std::move(message));
}

}  // namespace sluice::gateway::ai
