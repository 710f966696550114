// A streamed answer on its way to the caller: as it is where the caller speaks the vendor's shape,
// else event by event in the caller's. Pure; one for each stream.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/ai/meter.h"
#include "gateway/ai/shape.h"

namespace sluice::gateway::ai {

class StreamFilter {
 public:
  virtual ~StreamFilter() = default;

  // Appends to `out` what the caller gets of it. Of a chat nothing is appended before there is
  // something of the answer: until then another provider can be asked.
  virtual void feed(std::string_view bytes, std::string& out) = 0;
  // The vendor's answer has ended.
  virtual void end(std::string& out) = 0;
  // Its last event has been appended, so that its end brings nothing more.
  virtual bool over() const = 0;

  // It is broken, and must not look whole. What failed has not been written to `out`.
  virtual const std::optional<Problem>& failure() const = 0;
  virtual const Metered& metered() const = 0;
};

// `hide_usage`: OpenAI's chunk with it was asked for by us alone.
std::unique_ptr<StreamFilter> passing_filter(Shape shape, bool hide_usage);

// Of a vendor's own operations, whose events nobody here knows: each goes on as it comes, and the
// stream is whole where its transfer is. What any of them says of tokens counts.
std::unique_ptr<StreamFilter> open_ended_filter(Shape shape);

struct TranslationOptions {
  StreamOptions writer;
  bool as_array = false;  // Gemini's callers who did not ask for SSE get a list
};
std::unique_ptr<StreamFilter> translating_filter(Shape from, const ShapeCodec& to,
                                                 const TranslationOptions& options);
inline std::unique_ptr<StreamFilter> translating_filter(Shape from, Shape to,
                                                        const TranslationOptions& options) {
  return translating_filter(from, codec(to), options);
}

// The last word to a caller whose stream is broken: an event of its shape that says why.
std::string broken_stream(const ShapeCodec& shape, const Problem& problem);

}  // namespace sluice::gateway::ai
