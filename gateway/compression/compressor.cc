#include "gateway/compression/compressor.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include <brotli/encode.h>
#include <zlib.h>

namespace sluice::gateway {

namespace {

constexpr std::size_t kStep = 16 * 1024;  // of output at a time

class Gzip final : public Compressor {
 public:
  ~Gzip() override {
    if (ready_) ::deflateEnd(&stream_);
  }
  Coding coding() const override { return Coding::gzip; }

  void begin(std::uint32_t level) override {
    constexpr int kGzipWindow = 15 + 16;
    constexpr int kMemoryLevel = 8;
    if (ready_ && level == level_) {
      ::deflateReset(&stream_);
      return;
    }
    if (ready_) ::deflateEnd(&stream_);
    stream_ = {};
    level_ = level;
    ready_ = ::deflateInit2(&stream_, static_cast<int>(level), Z_DEFLATED, kGzipWindow,
                            kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  bool write(std::string_view data, std::string& out) override {
    return run(data, Z_NO_FLUSH, out);
  }
  bool flush(std::string& out) override { return run({}, Z_SYNC_FLUSH, out); }
  bool finish(std::string& out) override { return run({}, Z_FINISH, out); }

 private:
  bool run(std::string_view data, int how, std::string& out) {
    if (!ready_) return false;
    // NOLINTNEXTLINE: zlib does not write to it
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
    stream_.avail_in = static_cast<uInt>(data.size());
    while (true) {
      const std::size_t before = out.size();
      out.resize(before + kStep);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + before);
      stream_.avail_out = kStep;
      const int result = ::deflate(&stream_, how);
      out.resize(before + kStep - stream_.avail_out);
      if (result == Z_STREAM_END) return true;
      if (result == Z_BUF_ERROR) return true;  // nothing to do
      if (result != Z_OK) return false;
      if (stream_.avail_out != 0 && how != Z_FINISH) return true;
    }
  }

  z_stream stream_{};
  bool ready_ = false;
  std::uint32_t level_ = 0;
};

// Brotli's encoder cannot be begun anew, so its memory is what is kept.
class Arena {
 public:
  void clear() { used_ = block_ = 0; }
  void* take(std::size_t size) {
    size = (size + 63) & ~std::size_t{63};
    for (; block_ < blocks_.size(); ++block_, used_ = 0) {
      if (blocks_[block_].size - used_ < size) continue;
      void* at = blocks_[block_].bytes.get() + used_;
      used_ += size;
      return at;
    }
    const std::size_t block = std::max(size, kBlock);
    blocks_.push_back({std::make_unique_for_overwrite<char[]>(block), block});
    used_ = size;
    return blocks_.back().bytes.get();
  }
  static void* allocate(void* arena, std::size_t size) {
    return static_cast<Arena*>(arena)->take(size);
  }
  static void free(void*, void*) {}

 private:
  static constexpr std::size_t kBlock = 256 * 1024;
  struct Block {
    std::unique_ptr<char[]> bytes;
    std::size_t size = 0;
  };
  std::vector<Block> blocks_;
  std::size_t block_ = 0;
  std::size_t used_ = 0;
};

class Brotli final : public Compressor {
 public:
  ~Brotli() override { BrotliEncoderDestroyInstance(state_); }
  Coding coding() const override { return Coding::br; }

  void begin(std::uint32_t level) override {
    constexpr std::uint32_t kWindowBits = 18;  // 256 KiB: what an answer is worth
    BrotliEncoderDestroyInstance(state_);
    arena_.clear();
    state_ = BrotliEncoderCreateInstance(&Arena::allocate, &Arena::free, &arena_);
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_QUALITY, level);
    BrotliEncoderSetParameter(state_, BROTLI_PARAM_LGWIN, kWindowBits);
  }
  bool write(std::string_view data, std::string& out) override {
    return run(data, BROTLI_OPERATION_PROCESS, out);
  }
  bool flush(std::string& out) override { return run({}, BROTLI_OPERATION_FLUSH, out); }
  bool finish(std::string& out) override { return run({}, BROTLI_OPERATION_FINISH, out); }

 private:
  bool run(std::string_view data, BrotliEncoderOperation how, std::string& out) {
    std::size_t left = data.size();
    const auto* next = reinterpret_cast<const std::uint8_t*>(data.data());
    do {
      std::size_t room = 0;
      if (!BrotliEncoderCompressStream(state_, how, &left, &next, &room, nullptr, nullptr)) {
        return false;
      }
      std::size_t size = 0;
      const std::uint8_t* bytes = BrotliEncoderTakeOutput(state_, &size);
      out.append(reinterpret_cast<const char*>(bytes), size);
    } while (left > 0 || BrotliEncoderHasMoreOutput(state_));
    return true;
  }

  Arena arena_;
  BrotliEncoderState* state_ = nullptr;
};

}  // namespace

std::string_view coding_name(Coding coding) {
  return coding == Coding::br ? "br" : "gzip";
}

std::unique_ptr<Compressor> Compressor::make(Coding coding) {
  if (coding == Coding::br) return std::make_unique<Brotli>();
  return std::make_unique<Gzip>();
}

std::unique_ptr<Compressor> CompressorPool::take(Coding coding) {
  const auto found = std::ranges::find_if(
      unused_, [&](const auto& compressor) { return compressor->coding() == coding; });
  if (found == unused_.end()) return Compressor::make(coding);
  std::unique_ptr<Compressor> compressor = std::move(*found);
  unused_.erase(found);
  return compressor;
}

void CompressorPool::give_back(std::unique_ptr<Compressor> compressor) {
  if (compressor && unused_.size() < kKeep) unused_.push_back(std::move(compressor));
}

}  // namespace sluice::gateway
