// A parsed head as text, so that two ways of getting it can be compared.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gateway/http1/head.h"

namespace sluice::gateway::http1 {

inline std::string fields_summary(const FieldTable& fields) {
  std::string text;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field field = fields[i];
    text += std::string(field.name) + "=[" + std::string(field.value) + "]" +
            std::to_string(static_cast<int>(field.id)) +
            (fields.entry(i).nominated ? " nominated" : "") + "\n";
  }
  return text;
}

inline std::string body_summary(BodyKind body, std::uint64_t length) {
  switch (body) {
    case BodyKind::none:
      return "none";
    case BodyKind::length:
      return "length " + std::to_string(length);
    case BodyKind::chunked:
      return "chunked";
    case BodyKind::until_close:
      return "until_close";
  }
  return "?";
}

inline std::string summary(const RequestHead& head) {
  std::string text = std::string(head.method_name()) + "|" + std::string(head.target()) + "|";
  text += std::to_string(static_cast<int>(head.form())) + "|" + std::string(head.path());
  text += head.path_is_normal() ? "|normal|" : "|odd|";
  text += head.has_query() ? "?" + std::string(head.query()) : "";
  text += "|" + std::string(head.authority()) + "|" + std::string(head.host()) + "|";
  text += std::to_string(head.port().value_or(0)) + "|1." + std::to_string(head.minor_version());
  text += "|" + body_summary(head.body(), head.content_length());
  text += head.keep_alive() ? "|keep" : "|close";
  text += head.expect_continue() ? "|expect" : "";
  text += head.host_overridden() ? "|overridden" : "";
  text += "|" + std::string(head.upgrade()) + "|" + std::to_string(head.size()) + "\n";
  return text + fields_summary(head.fields());
}

inline std::string summary(const ResponseHead& head) {
  std::string text = std::to_string(head.status()) + "|" + std::string(head.reason()) + "|1.";
  text += std::to_string(head.minor_version()) + "|";
  text += body_summary(head.body(), head.content_length());
  text += head.keep_alive() ? "|keep|" : "|close|";
  text += std::to_string(head.size()) + "\n";
  return text + fields_summary(head.fields());
}

// What a parse came to: the head, the error's name, or that more is needed.
template <typename Head>
std::string outcome(Progress progress, ParseError error, const Head& head) {
  switch (progress) {
    case Progress::complete:
      return summary(head);
    case Progress::failed:
      return std::string(name(error));
    case Progress::need_more:
      return "need more";
  }
  return "?";
}

// Memory of exactly the bytes' size, so that AddressSanitizer sees a read beyond them.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view text) : bytes_(text.begin(), text.end()) {}
  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::vector<char> bytes_;
};

// Feeds `parse` first with `cut` bytes, then with all of them at another address.
template <typename Parser, typename Head, typename... Context>
std::string parse_in_two(std::string_view bytes, std::size_t cut, HeadLimits limits,
                         const Context&... context) {
  Parser parser(limits);
  Head head;
  {
    const ExactCopy first(bytes.substr(0, cut));
    const Progress progress = parser.parse(first.view(), context..., head);
    if (progress != Progress::need_more) return outcome(progress, parser.error(), head);
  }
  const ExactCopy all(bytes);
  const Progress progress = parser.parse(all.view(), context..., head);
  return outcome(progress, parser.error(), head);
}

}  // namespace sluice::gateway::http1
