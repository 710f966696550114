#include "gateway/relay_flow.h"

#include <cerrno>

#include "gateway/l4_relay.h"

namespace sluice::gateway {

namespace {

// Reads before others get their turn.
constexpr int kReadsPerTurn = 16;

}  // namespace

RelayFlow::RelayFlow(RelayWorker& worker, Transport& source, Transport& sink, std::string first)
    : worker_(worker),
      source_(source),
      sink_(sink),
      rest_(std::move(first)),
      pipe_(worker.pipes()) {}

RelayFlow::Need RelayFlow::pump() {
  Step step = deliver();
  if (step == Step::blocked) return Need::write;
  if (step == Step::failed) return Need::sink_failed;
  for (int reads = 0; reads < kReadsPerTurn && !source_done_; ++reads) {
    step = take();
    if (step == Step::failed) return Need::source_failed;
    step = deliver();
    if (step == Step::blocked) return Need::write;
    if (step == Step::failed) return Need::sink_failed;
    if (drained_) break;
  }
  if (!source_done_) return Need::read;
  if (!ended_) {
    ended_ = true;
    sink_.shutdown_write();
  }
  return Need::nothing;
}

RelayFlow::Step RelayFlow::deliver() {
  if (!rest_.empty()) {
    const Step step = deliver_rest();
    if (step != Step::done) return step;
  }
  return delivered(pipe_.drain(sink_, bytes_));
}

RelayFlow::Step RelayFlow::deliver_rest() {
  Outbox outbox;
  outbox.add(std::string_view(rest_).substr(rest_sent_));
  std::uint64_t sent = 0;
  const Flush flush = sink_.write(outbox, sent);
  rest_sent_ += sent;
  bytes_ += sent;
  if (flush != Flush::done) return delivered(flush);
  rest_ = std::string();  // an idle connection keeps no buffer
  rest_sent_ = 0;
  return Step::done;
}

RelayFlow::Step RelayFlow::delivered(Flush flush) {
  if (flush == Flush::failed) return failed(errno);
  return flush == Flush::done ? Step::done : Step::blocked;
}

RelayFlow::Step RelayFlow::take() {
  drained_ = false;
  return meter_.bulk() ? take_by_splice() : take_by_copy();
}

RelayFlow::Step RelayFlow::take_by_copy() {
  auto& scratch = worker_.scratch();
  const Received got = source_.read(scratch);
  drained_ = got.result == ReadResult::again;
  source_done_ = got.result == ReadResult::eof;
  if (got.result == ReadResult::failed) return failed(errno);
  if (got.result != ReadResult::data) return Step::done;
  if (source_.splices() && sink_.plain()) meter_.copied(got.bytes);
  Outbox outbox;
  outbox.add({scratch.data(), got.bytes});
  std::uint64_t sent = 0;
  sink_.write(outbox, sent);
  bytes_ += sent;
  // A failure of the sink shows again, with its own name, when the rest is delivered.
  if (sent < got.bytes) rest_.assign(scratch.data() + sent, got.bytes - sent);
  return Step::done;
}

RelayFlow::Step RelayFlow::take_by_splice() {
  const Received got = pipe_.fill(source_, BorrowedPipe::kChunk);
  if (got.result == ReadResult::full) return take_by_copy();
  drained_ = got.result == ReadResult::again;
  source_done_ = got.result == ReadResult::eof;
  if (got.result == ReadResult::failed) return failed(errno);
  if (got.result != ReadResult::data) return Step::done;
  meter_.spliced(got.bytes);
  return Step::done;
}

// TLS breaks without an errno too.
RelayFlow::Step RelayFlow::failed(int number) {
  if (number == 0) number = ECONNABORTED;
  error_ = std::error_code(number, std::system_category());
  return Step::failed;
}

}  // namespace sluice::gateway
