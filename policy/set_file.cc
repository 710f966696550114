#include "policy/set_file.h"

#include <optional>

namespace sluice::policy {

namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 60;
  std::string out(text.substr(0, kMost));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  return "`" + out + (text.size() > kMost ? "…`" : "`");
}

struct V4 {
  std::uint32_t address = 0;
  int length = 32;
};

// Digits without a leading zero, at most `most`.
std::optional<std::uint32_t> take_number(std::string_view& text, std::uint32_t most) {
  std::uint32_t value = 0;
  std::size_t digits = 0;
  while (digits < text.size() && digits < 3 && text[digits] >= '0' && text[digits] <= '9')
    value = value * 10 + static_cast<std::uint32_t>(text[digits++] - '0');
  if (digits == 0 || value > most || (digits > 1 && text[0] == '0')) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

// By hand, for a list of a million.
std::optional<V4> parse_v4(std::string_view text) {
  V4 out;
  for (int part = 0; part < 4; ++part) {
    if (part > 0) {
      if (!text.starts_with('.')) return std::nullopt;
      text.remove_prefix(1);
    }
    const auto number = take_number(text, 255);
    if (!number) return std::nullopt;
    out.address = out.address << 8 | *number;
  }
  if (text.empty()) return out;
  if (!text.starts_with('/')) return std::nullopt;
  text.remove_prefix(1);
  const auto length = take_number(text, 32);
  if (!length || !text.empty()) return std::nullopt;
  out.length = static_cast<int>(*length);
  return out;
}

// Of a line of JSON: the text at "cidr"; nullopt: there is none, as in Spamhaus' last line.
std::optional<std::string_view> cidr_of_json(std::string_view line) {
  constexpr std::string_view kKey = "\"cidr\"";
  std::size_t at = line.find(kKey);
  if (at == std::string_view::npos) return std::nullopt;
  at = line.find_first_not_of(" \t:", at + kKey.size());
  if (at == std::string_view::npos || line[at] != '"') return std::nullopt;
  const std::size_t end = line.find('"', at + 1);
  if (end == std::string_view::npos) return std::nullopt;
  return line.substr(at + 1, end - at - 1);
}

// What of a line is the element; empty: nothing.
std::string_view element_of(std::string_view line, SetFormat format) {
  if (format != SetFormat::spamhaus_drop) return trimmed(line.substr(0, line.find('#')));
  const std::string_view text = trimmed(line);
  if (!text.starts_with('{')) return trimmed(text.substr(0, text.find(';')));
  if (const auto cidr = cidr_of_json(text)) return *cidr;
  return text.find("\"metadata\"") == std::string_view::npos ? text : std::string_view();
}

class SetParser {
 public:
  SetParser(SetFormat format, const std::string& name, AddressSetBuilder& out, Reporter& reporter)
      : format_(format), name_(name), out_(out), reporter_(reporter) {}

  // False: no more.
  bool line(std::string_view text) {
    ++number_;
    const std::string_view element = element_of(text, format_);
    if (element.empty()) return true;
    column_ = static_cast<int>(element.data() - text.data()) + 1;
    if (out_.added() >= kMaxSetElements) {
      error("more than " + std::to_string(kMaxSetElements) + " addresses and prefixes in all sets",
            "wider prefixes");
      return false;
    }
    if (const auto v4 = parse_v4(element)) {
      add_v4(*v4, element);
    } else {
      add(element);
    }
    return errors_ < kMostSetErrors;
  }

 private:
  void add_v4(const V4& prefix, std::string_view element) {
    if (prefix.length == 0) return everybody(element);
    const std::uint32_t hosts = prefix.length == 32 ? 0 : ~0U >> prefix.length;
    if ((prefix.address & hosts) != 0 && format_ != SetFormat::netset) {
      return host_bits({IpAddress::v4(prefix.address & ~hosts),
                        static_cast<std::uint8_t>(prefix.length)},
                       element);
    }
    out_.add_v4(prefix.address, prefix.length);
  }

  void add(std::string_view element) {
    const std::size_t slash = element.find('/');
    const auto address = IpAddress::parse(element.substr(0, slash));
    std::optional<std::uint32_t> length;
    if (address && slash != std::string_view::npos) {
      std::string_view digits = element.substr(slash + 1);
      length = take_number(digits, static_cast<std::uint32_t>(address->bits()));
      if (!digits.empty()) length.reset();
    } else if (address) {
      length = static_cast<std::uint32_t>(address->bits());
    }
    if (!length) {
      return error(shown(element) + " is not an address or prefix",
                   "one a line, such as 192.0.2.0/24 or 2001:db8::/32");
    }
    if (*length == 0) return everybody(element);
    const Prefix prefix{address->masked(static_cast<int>(*length)),
                        static_cast<std::uint8_t>(*length)};
    if (prefix.address != *address && format_ != SetFormat::netset)
      return host_bits(prefix, element);
    out_.add(prefix);
  }

  void everybody(std::string_view element) {
    error(shown(element) + " is every address", "a list that names everybody is a mistake");
  }
  void host_bits(const Prefix& network, std::string_view element) {
    error(shown(element) + " has bits set after its prefix",
          "did you mean `" + network.to_string() + "`? `format: netset` clears them");
  }
  void error(std::string message, std::string hint) {
    if (++errors_ == kMostSetErrors) hint += "; the rest of this file was not looked at";
    reporter_.error(Location{name_, number_, column_}, std::move(message), std::move(hint));
  }

  SetFormat format_;
  const std::string& name_;
  AddressSetBuilder& out_;
  Reporter& reporter_;
  int number_ = 0;
  int column_ = 1;
  std::size_t errors_ = 0;
};

}  // namespace

void parse_set_file(std::string_view text, SetFormat format, const std::string& name,
                    AddressSetBuilder& out, Reporter& reporter) {
  SetParser parser(format, name, out, reporter);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (!parser.line(text.substr(0, end))) return;
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

}  // namespace sluice::policy
