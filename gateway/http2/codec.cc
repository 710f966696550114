#include "gateway/http2/codec.h"

#include <algorithm>
#include <utility>

#include "gateway/worker.h"

namespace sluice::gateway::http2 {

void Codec::open(TransportPtr transport, SessionPtr session) {
  transport_ = std::move(transport);
  session_ = std::move(session);
  begin_ = end_ = 0;
  bytes_in_ = bytes_out_ = 0;
  blocked_ = eof_ = false;
}

void Codec::close() {
  session_.reset();
  worker_.buffers().give_back(std::move(buffer_));
  begin_ = end_ = 0;
  if (const TransportPtr transport = std::move(transport_)) transport->close();
}

Codec::Receipt Codec::receive() {
  // More than this at a time would keep other connections waiting.
  constexpr int kReads = 4;
  BufferPtr buffer = worker_.buffers().take();
  Receipt receipt;
  for (int i = 0; i < kReads && receipt.state == State::open; ++i) {
    const Received got = transport_->read(buffer->bytes);
    receipt.exhausted = got.result == ReadResult::again;
    if (receipt.exhausted) break;
    if (got.result != ReadResult::data) {
      eof_ = got.result == ReadResult::eof;
      receipt.state = eof_ ? State::ended : State::broken;
      break;
    }
    receipt = receive(std::string_view(buffer->bytes, got.bytes));
    if (got.bytes < Buffer::kSize) break;  // the wait, which looks before it sleeps, finds more
  }
  worker_.buffers().give_back(std::move(buffer));
  return receipt;
}

Codec::Receipt Codec::receive(std::string_view bytes) {
  bytes_in_ += bytes.size();
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const ssize_t used = nghttp2_session_mem_recv(session_.get(), data, bytes.size());
  if (used < 0) return {State::broken, static_cast<int>(used)};
  return {};
}

bool Codec::fill() {
  while (true) {
    if (!has_room(kFrame)) return true;
    const std::uint8_t* frame = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_.get(), &frame);
    if (size < 0) return false;
    if (size == 0) return true;
    put({reinterpret_cast<const char*>(frame), static_cast<std::size_t>(size)});
  }
}

bool Codec::has_room(std::size_t bytes) {
  if (!buffer_) buffer_ = worker_.buffers().take();
  if (begin_ == end_) begin_ = end_ = 0;
  return Buffer::kSize - end_ >= bytes;
}

void Codec::put(std::string_view bytes) {
  std::copy_n(bytes.data(), bytes.size(), buffer_->bytes + end_);
  end_ += bytes.size();
}

Codec::State Codec::flush() {
  while (begin_ != end_) {
    Outbox out;
    out.add(std::string_view(buffer_->bytes + begin_, end_ - begin_));
    std::uint64_t sent = 0;
    const Flush result = transport_->write(out, sent);
    begin_ += sent;
    bytes_out_ += sent;
    if (result == Flush::failed) return State::broken;
    blocked_ = result == Flush::blocked;
    if (blocked_) {
      transport_->want_write();
      return State::open;
    }
    if (!fill()) return State::broken;
  }
  blocked_ = false;
  worker_.buffers().give_back(std::move(buffer_));
  return finished() ? State::ended : State::open;
}

bool Codec::finished() const {
  return nghttp2_session_want_read(session_.get()) == 0 &&
         nghttp2_session_want_write(session_.get()) == 0 && !has_output();
}

}  // namespace sluice::gateway::http2
