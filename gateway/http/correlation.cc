// What ties the records of several services together: the request's id, and its trace.
#include <algorithm>

#include "gateway/http/exchange.h"
#include "gateway/http/trace_context.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {
namespace {

using http1::KnownField;
using http1::KnownFieldSet;

constexpr std::string_view kRequestId = "x-request-id";

// "" where there are several lines: two readers could take different ones.
std::string_view only(const http1::FieldTable& fields, KnownField id) {
  std::string_view value;
  std::size_t lines = 0;
  for (const http1::Field field : fields) {
    if (field.id != id) continue;
    value = field.value;
    ++lines;
  }
  return lines == 1 ? value : std::string_view();
}

}  // namespace

// In phase head. Trusted hops say what both are; nobody else may choose what is logged as an id of
// ours, nor put requests into a trace of theirs.
void Exchange::correlate() {
  const policy::Listener& policy = listener().policy();
  const http1::FieldTable& fields = request_.fields();
  const bool makes = policy.request_id != policy::RequestIdMode::none;
  if (fields.has(KnownField::x_request_id) && (behind_proxy_ || !makes)) {
    const std::string_view said = only(fields, KnownField::x_request_id);
    if (is_request_id(said)) {
      std::ranges::copy(said, id_.begin());
      id_size_ = said.size();
    }
  }
  make_request_id();
  const bool starts = starts_traces();
  if (fields.has(KnownField::traceparent) && (behind_proxy_ || !starts)) {
    if (const auto parent = parse_traceparent(only(fields, KnownField::traceparent))) {
      std::ranges::copy(parent->trace_id, trace_id_.begin());
      traced_ = joined_trace_ = true;
      sampled_ = parent->sampled;
      parent_span_ = span_id_of(parent->parent_id);
    }
  }
  if (starts && !traced_) {
    write_trace_id(worker_.random(), worker_.random(), trace_id_);
    traced_ = true;
    sampled_ = sample();
  }
  begin_spans();
}

void Exchange::make_request_id() {
  if (id_size_ != 0 || listener().policy().request_id == policy::RequestIdMode::none) return;
  write_uuid(worker_.random(), worker_.random(), std::span(id_).first<kUuidSize>());
  id_size_ = kUuidSize;
}

// What the upstream gets of both; each try is a span of its own. Returns how many are in `memory`.
std::size_t Exchange::correlate_hop(http1::RequestForwarding& options,
                                    std::span<ExtraField> memory) {
  const policy::Listener& policy = listener().policy();
  std::size_t count = 0;
  if (policy.request_id != policy::RequestIdMode::none) {
    options.remove = options.remove | KnownFieldSet{KnownField::x_request_id};
    memory[count++] = {"X-Request-Id", request_id()};
  }
  if (starts_traces()) {
    options.remove = options.remove | KnownFieldSet{KnownField::traceparent};
    if (!joined_trace_) options.remove = options.remove | KnownFieldSet{KnownField::tracestate};
    write_traceparent(trace_id(), try_span_, sampled_, traceparent_);
    memory[count++] = {"traceparent", {traceparent_.data(), traceparent_.size()}};
  }
  return count;
}

void Exchange::return_request_id(std::string& lines) const {
  if (id_size_ == 0 || listener().policy().request_id != policy::RequestIdMode::give_back) return;
  lines.append(kRequestId).append(": ").append(request_id()).append("\r\n");
}

// The same with an origin's answer, which may have one too.
void Exchange::return_request_id(ResponseHead& response, AnswerEdits& edits) {
  if (listener().policy().request_id != policy::RequestIdMode::give_back) return;
  response.fields().drop(kRequestId);
  if (edits.lines.empty()) answer_lines_.clear();  // else they are what is there already
  return_request_id(answer_lines_);
  edits.lines = answer_lines_;
}

}  // namespace sluice::gateway::http
