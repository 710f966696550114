// What a whole answer says of itself, read while it goes by in pieces; nothing of it is kept.
#pragma once

#include <memory>
#include <string_view>

#include "gateway/ai/meter.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

class ReplyMeter {
 public:
  explicit ReplyMeter(Shape shape);
  ~ReplyMeter();
  ReplyMeter(const ReplyMeter&) = delete;
  ReplyMeter& operator=(const ReplyMeter&) = delete;

  void feed(std::string_view bytes);
  // The answer has ended. As meter_reply() of its JSON; of what is no JSON, nothing.
  void end(Metered& out);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace sluice::gateway::ai
