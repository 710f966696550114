// What the policy's filters do to an answer on its way to the caller.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gateway/ai/filter/stream_redactor.h"
#include "gateway/ai/filter/text_filter.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

// Of one try, in the caller's shape.
class AnswerFilter {
 public:
  // `filter` outlives it. `as_array`: Gemini's stream that is a list.
  AnswerFilter(Shape shape, const TextFilter& filter, bool as_array)
      : filter_(filter), as_array_(as_array), redactor_(shape, filter) {}

  // Of a stream. False: a filter refuses it.
  bool feed(std::string_view bytes, std::string& out);
  bool end(std::string& out);
  // An answer as a whole.
  bool whole(std::string& body);

  // What the caller is told, once one of these was false.
  const FilterRule* refused() const { return refused_; }
  Findings findings() const;

 private:
  bool judge();

  const TextFilter& filter_;
  bool as_array_;
  StreamRedactor redactor_;
  Findings of_whole_;
  std::string list_;  // until it is there
  const FilterRule* refused_ = nullptr;
};

}  // namespace sluice::gateway::ai
