#include "gateway/ai/reply_meter.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value_stack.hpp>

#include "gateway/ai/json_text.h"
#include "gateway/ai/plain_counts.h"
#include "gateway/ai/usage.h"

namespace sluice::gateway::ai {
namespace {

// Takes the token counts and the model's name out of the events of a JSON parser. The answer is an
// object, or a list whose last element is it: what stands within lists alone begins one anew.
class ReplyPicker {
 public:
  static constexpr std::size_t max_object_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_array_size = max_object_size;
  static constexpr std::size_t max_key_size = max_object_size;
  static constexpr std::size_t max_string_size = max_object_size;
  using Text = json::string_view;
  using Error = json::error_code;

  explicit ReplyPicker(Shape shape) : shape_(shape) {}

  const std::optional<Usage>& usage() const { return usage_; }
  const std::optional<std::string>& model() const { return model_; }

  // NOLINTBEGIN(readability-identifier-naming): the parser's names
  bool on_document_begin(Error&) { return true; }
  bool on_document_end(Error&) { return true; }

  bool on_object_begin(Error&) {
    if (begins(Wanted::usage) && !counting_) begin_counts();
    ++depth_;
    return true;
  }
  bool on_object_end(std::size_t size, Error&) {
    --depth_;
    if (!counting_) return true;
    stack_.push_object(size);
    if (depth_ == member_depth()) end_counts();
    return true;
  }
  bool on_array_begin(Error&) {
    begins(Wanted::nothing);
    if (depth_ == lists_) ++lists_;
    ++depth_;
    return true;
  }
  bool on_array_end(std::size_t size, Error&) {
    if (depth_ == lists_) --lists_;
    --depth_;
    if (counting_) stack_.push_array(size);
    return true;
  }
  bool on_key_part(Text part, std::size_t, Error&) {
    if (counting_)
      stack_.push_chars(part);
    else
      note_key(part);
    return true;
  }
  bool on_key(Text part, std::size_t size, Error&) {
    if (counting_) {
      stack_.push_key(part);
    } else {
      note_key(part);
      end_key(size);
    }
    return true;
  }
  bool on_string_part(Text part, std::size_t, Error&) {
    if (counting_)
      stack_.push_chars(part);
    else if (wants_model())
      text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(Text part, std::size_t, Error&) {
    if (counting_) {
      stack_.push_string(part);
    } else if (wants_model()) {
      text_.append(part.data(), part.size());
      model_ = std::exchange(text_, {});
    }
    begins(Wanted::nothing);
    return true;
  }
  bool on_number_part(Text, Error&) { return true; }
  bool on_int64(std::int64_t number, Text, Error&) {
    return scalar([&] { stack_.push_int64(number); });
  }
  bool on_uint64(std::uint64_t number, Text, Error&) {
    return scalar([&] { stack_.push_uint64(number); });
  }
  bool on_double(double number, Text, Error&) {
    return scalar([&] { stack_.push_double(number); });
  }
  bool on_bool(bool value, Error&) {
    return scalar([&] { stack_.push_bool(value); });
  }
  bool on_null(Error&) {
    return scalar([&] { stack_.push_null(); });
  }
  bool on_comment_part(Text, Error&) { return true; }
  bool on_comment(Text, Error&) { return true; }
  // NOLINTEND(readability-identifier-naming)

 private:
  enum class Wanted : std::uint8_t { nothing, usage, model };

  // Of the answer's own members.
  std::size_t member_depth() const { return lists_ + 1; }
  bool wants_model() const { return wanted_ == Wanted::model && depth_ == member_depth(); }

  // A value. True: it is the one that the key before it has announced.
  bool begins(Wanted what) {
    if (depth_ == lists_) {
      usage_.reset();
      model_.reset();
    }
    const bool is = what != Wanted::nothing && wanted_ == what && depth_ == member_depth();
    if (!counting_) wanted_ = Wanted::nothing;
    return is;
  }
  template <typename Push>
  bool scalar(Push push) {
    if (counting_) push();
    begins(Wanted::nothing);
    return true;
  }

  // The parts of a key, as far as it can be one that is wanted.
  void note_key(Text part) {
    if (depth_ != member_depth()) return;
    for (std::size_t i = 0; i < part.size() && key_size_ < key_.size(); ++i)
      key_[key_size_++] = part[i];
  }
  // Of two of one name the last one holds.
  void end_key(std::size_t size) {
    const std::string_view key(key_.data(), std::exchange(key_size_, 0));
    wanted_ = Wanted::nothing;
    if (depth_ != member_depth() || key.size() != size) return;
    if (key == usage_key(shape_)) {
      wanted_ = Wanted::usage;
      usage_.reset();
    } else if (key == model_key(shape_)) {
      wanted_ = Wanted::model;
      model_.reset();
    }
  }

  void begin_counts() {
    counting_ = true;
    memory_.release();
    stack_.reset(&memory_);
  }
  void end_counts() {
    counting_ = false;
    const json::value counts = stack_.release();
    usage_ = usage_of(shape_, counts.get_object());
  }

  Shape shape_;
  std::size_t depth_ = 0;  // of what is open
  std::size_t lists_ = 0;  // so many of it, from the outermost, are lists
  std::array<char, 16> key_{};
  std::size_t key_size_ = 0;
  Wanted wanted_ = Wanted::nothing;
  bool counting_ = false;
  std::string text_;
  std::optional<Usage> usage_;
  std::optional<std::string> model_;
  // Counts are small: they need no memory but this.
  alignas(json::value) std::array<unsigned char, 1024> values_;
  alignas(json::value) std::array<unsigned char, 512> open_values_;
  json::monotonic_resource memory_{values_.data(), values_.size()};
  json::value_stack stack_{&memory_, open_values_.data(), open_values_.size()};
};

}  // namespace

struct ReplyMeter::Parser {
  explicit Parser(Shape shape) : events(json::parse_options(), shape) {}

  json::basic_parser<ReplyPicker> events;
  boost::system::error_code error;
};

ReplyMeter::ReplyMeter(Shape shape, std::uint64_t size) : shape_(shape), size_(size) {}
ReplyMeter::~ReplyMeter() = default;

bool ReplyMeter::read_usage(std::string_view text) {
  if (PlainCounts plain; plain.read(text)) {
    seen_.usage = usage_of(shape_, plain);
    return true;
  }
  alignas(json::value) std::array<unsigned char, 1024> values;
  json::monotonic_resource memory(values.data(), values.size());
  boost::system::error_code error;
  const json::value counts = json::parse(text, error, &memory);
  if (error) return false;
  if (counts.is_object()) seen_.usage = usage_of(shape_, counts.get_object());
  return true;
}

// False: it is for the parser, which knows lists and what repeats.
bool ReplyMeter::scan(std::string_view whole) {
  const auto answer = JsonText::scan(whole);
  if (!answer) return false;
  if (const auto usage = answer->find(usage_key(shape_)); usage && !read_usage(*usage))
    return false;
  if (auto model = answer->string(model_key(shape_))) seen_.model = std::move(*model);
  return true;
}

void ReplyMeter::feed(std::string_view bytes) {
  if (!parser_) {
    if (scanned_ || (bytes.size() == size_ && scan(bytes))) {
      scanned_ = true;
      return;
    }
    parser_ = std::make_unique<Parser>(shape_);
  }
  boost::system::error_code& error = parser_->error;
  if (error) return;
  const std::size_t taken = parser_->events.write_some(true, bytes.data(), bytes.size(), error);
  if (!error && taken < bytes.size()) error = json::error::extra_data;
}

void ReplyMeter::end(Metered& out) {
  if (scanned_) {
    if (seen_.usage) out.usage = seen_.usage;
    if (!seen_.model.empty()) out.model = std::move(seen_.model);
  }
  if (!parser_) return;
  boost::system::error_code& error = parser_->error;
  if (!error) parser_->events.write_some(false, nullptr, 0, error);
  if (error) return;
  const ReplyPicker& seen = parser_->events.handler();
  if (seen.usage()) out.usage = seen.usage();
  if (seen.model()) out.model = *seen.model();
}

}  // namespace sluice::gateway::ai
