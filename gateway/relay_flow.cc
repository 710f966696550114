#include "gateway/relay_flow.h"

#include <cerrno>
#include <fcntl.h>
#include <utility>

#include "gateway/l4_relay.h"

namespace sluice::gateway {

namespace {

// How much one splice(2) may take. Less costs more: 240 ms of CPU per GB with 256 KiB, 190 with 1
// MiB, 410 by copying.
constexpr std::size_t kSpliceChunk = 1024 * 1024;
// Below this a copy through a warm buffer is cheaper than the two more system calls and the page
// references of splice (by a tenth at 4 KiB) …
constexpr std::size_t kSmallRead = 16 * 1024;
// … and from this on it is dearer (by a tenth at 60 KiB).
constexpr std::size_t kLargeRead = 32 * 1024;
constexpr std::uint8_t kSmallReadsBeforeCopy = 4;
// Reads before others get their turn.
constexpr int kReadsPerTurn = 16;

bool would_block(int number) {
  return number == EAGAIN || number == EWOULDBLOCK;
}

}  // namespace

RelayFlow::RelayFlow(RelayWorker& worker, Transport& source, Transport& sink, std::string first)
    : worker_(worker), source_(source), sink_(sink), rest_(std::move(first)) {}

RelayFlow::~RelayFlow() {
  drop_pipe();
}

void RelayFlow::drop_pipe() {
  if (!pipe_) return;
  if (in_pipe_ == 0) {
    worker_.pipes().give_back(std::move(*pipe_));
  } else {
    worker_.pipes().discard(std::move(*pipe_));
  }
  pipe_.reset();
}

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
  drop_pipe();
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
  return in_pipe_ == 0 ? Step::done : deliver_pipe();
}

RelayFlow::Step RelayFlow::deliver_rest() {
  Outbox outbox;
  outbox.add(std::string_view(rest_).substr(rest_sent_));
  std::uint64_t sent = 0;
  const Flush flush = sink_.write(outbox, sent);
  rest_sent_ += sent;
  bytes_ += sent;
  if (flush != Flush::done) return flush == Flush::blocked ? Step::blocked : failed(errno);
  rest_ = std::string();  // an idle connection keeps no buffer
  rest_sent_ = 0;
  return Step::done;
}

RelayFlow::Step RelayFlow::deliver_pipe() {
  while (in_pipe_ != 0) {
    const ssize_t moved = ::splice(pipe_->read_end(), nullptr, sink_.fd(), nullptr, in_pipe_,
                                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (moved < 0) return would_block(errno) ? Step::blocked : failed(errno);
    in_pipe_ -= static_cast<std::size_t>(moved);
    bytes_ += static_cast<std::size_t>(moved);
  }
  return Step::done;
}

RelayFlow::Step RelayFlow::take() {
  drained_ = false;
  if (splicing_ && !pipe_) pipe_ = worker_.pipes().borrow();
  return splicing_ && pipe_ ? take_by_splice() : take_by_copy();
}

RelayFlow::Step RelayFlow::take_by_copy() {
  auto& scratch = worker_.scratch();
  const Received got = source_.read(scratch);
  drained_ = got.result == ReadResult::again || got.drained;
  source_done_ = got.result == ReadResult::eof;
  if (got.result == ReadResult::failed) return failed(errno);
  if (got.result != ReadResult::data) return Step::done;
  if (got.bytes >= kLargeRead && source_.plain() && sink_.plain()) splicing_ = true;
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
  const ssize_t got = ::splice(source_.fd(), nullptr, pipe_->write_end(), nullptr, kSpliceChunk,
                               SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (got < 0 &&
      would_block(errno)) {  // the pipe is empty here, so it is the source that has nothing
    drained_ = true;
    return Step::done;
  }
  if (got < 0) return failed(errno);
  if (got == 0) {
    source_done_ = true;
    return Step::done;
  }
  in_pipe_ = static_cast<std::size_t>(got);
  small_reads_ = in_pipe_ < kSmallRead ? static_cast<std::uint8_t>(small_reads_ + 1) : 0;
  if (small_reads_ == kSmallReadsBeforeCopy) {
    small_reads_ = 0;
    splicing_ = false;
  }
  return Step::done;
}

// TLS breaks without an errno too.
RelayFlow::Step RelayFlow::failed(int number) {
  if (number == 0) number = ECONNABORTED;
  error_ = std::error_code(number, std::system_category());
  return Step::failed;
}

}  // namespace sluice::gateway
