// Codings of answers on their way: gzip (RFC 1952) and brotli (RFC 7932).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy/config/compression.h"

namespace sluice::gateway {

using policy::Coding;

std::string_view coding_name(Coding coding);  // as in Content-Encoding

// One answer at a time; used again for the next. Not thread safe.
class Compressor {
 public:
  virtual ~Compressor() = default;
  virtual Coding coding() const = 0;
  virtual void begin(std::uint32_t level) = 0;
  // What comes out is appended; false: no memory, and the answer cannot go on.
  virtual bool write(std::string_view data, std::string& out) = 0;
  virtual bool flush(std::string& out) = 0;  // all that was written so far can be read
  virtual bool finish(std::string& out) = 0;

  static std::unique_ptr<Compressor> make(Coding coding);
};

// A worker's compressors between answers.
class CompressorPool {
 public:
  std::unique_ptr<Compressor> take(Coding coding);
  void give_back(std::unique_ptr<Compressor> compressor);

 private:
  static constexpr std::size_t kKeep = 16;  // about 300 KiB each
  std::vector<std::unique_ptr<Compressor>> unused_;
};

}  // namespace sluice::gateway
