// What a whole answer says of itself, read while it goes by in pieces; nothing of it is kept.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "gateway/ai/meter.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

class ReplyMeter {
 public:
  // `size`: bytes of the answer, 0 where that is not known before. One that comes in one piece, as
  // most do, costs a scan.
  explicit ReplyMeter(Shape shape, std::uint64_t size = 0);
  ~ReplyMeter();
  ReplyMeter(const ReplyMeter&) = delete;
  ReplyMeter& operator=(const ReplyMeter&) = delete;

  void feed(std::string_view bytes);
  // The answer has ended. As meter_reply() of its JSON. Of what is no JSON nothing, but where it
  // came in one piece and is wrong only within values that nobody has asked for.
  void end(Metered& out);

 private:
  struct Parser;
  bool scan(std::string_view whole);
  bool read_usage(std::string_view text);  // false: it is no JSON

  Shape shape_;
  std::uint64_t size_;
  bool scanned_ = false;
  Metered seen_;
  std::unique_ptr<Parser> parser_;  // null: not needed so far
};

}  // namespace sluice::gateway::ai
