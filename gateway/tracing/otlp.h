// Spans as an ExportTraceServiceRequest in OTLP's JSON encoding (opentelemetry.io, OTLP 1.x: ids are
// hexadecimal, 64-bit numbers are strings, enumerators are numbers), named after the semantic
// conventions for HTTP and for generative AI. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/tracing/span.h"

namespace sluice::gateway {

class OtlpWriter {
 public:
  // Appends to `out`, which outlives this. `service`: service.name.
  OtlpWriter(std::string& out, std::string_view service);
  void add(const Span& span);
  void end();

 private:
  void request(const Span& span);
  void decision(const Span& span);
  void attempt(const Span& span);
  void model(const Span& span);
  void text(std::string_view key, std::string_view value);
  void number(std::string_view key, std::int64_t value);

  std::string& out_;
  bool first_ = true;            // span
  bool first_attribute_ = true;  // of the span
};

// What of an ExportTraceServiceResponse was not taken: spans, and why.
struct OtlpRejected {
  std::uint64_t spans = 0;
  std::string message;
};
OtlpRejected rejected_by(std::string_view answer);

}  // namespace sluice::gateway
