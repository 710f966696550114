// Values of a checked tree: each takes the text, or leaves the default where there is none (what
// check() has refused too).
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/config.h"
#include "policy/units.h"
#include "policy/yaml_tree.h"

namespace sluice::policy::binding {

inline void read(const Node& node, std::string& out) {
  if (node.kind == Node::Kind::scalar) out = node.text;
}

template <typename T>
void take(const std::optional<T>& parsed, T& out) {
  if (parsed) out = *parsed;
}

inline void read(const Node& node, bool& out) {
  take(parse_boolean(node.text), out);
}
inline void read(const Node& node, double& out) {
  take(parse_number(node.text), out);
}
inline void read(const Node& node, Duration& out) {
  take(parse_duration(node.text), out);
}
inline void read(const Node& node, Prefix& out) {
  take(Prefix::parse(node.text), out);
}
inline void read(const Node& node, PortRange& out) {
  take(PortRange::parse(node.text), out);
}
inline void read_size(const Node& node, std::uint64_t& out) {
  take(parse_size(node.text), out);
}
inline void read(const Node& node, SocketAddress& out) {
  take(SocketAddress::parse(node.text), out);
}

template <std::unsigned_integral T>
inline void read(const Node& node, T& out) {
  const auto value = parse_integer(node.text);
  if (value && std::in_range<T>(*value)) out = static_cast<T>(*value);
}

inline void read(const Node& node, DefaultAction& out) {
  if (const auto status = parse_integer(node.text)) {
    out = static_cast<int>(*status);
  } else if (node.kind == Node::Kind::scalar) {
    out = node.text;
  }
}

template <typename T>
inline void read(const Node& node, std::optional<T>& out) {
  T value{};
  read(node, value);
  out = value;
}

template <typename T>
inline void read(const Node& node, std::vector<T>& out) {
  if (node.kind != Node::Kind::list) return;
  out.clear();
  for (const Node& element : node.children)
    read(element, out.emplace_back());
}

template <typename Enum, std::size_t kCount>
void read_word(const Node& node, const std::array<std::string_view, kCount>& words, Enum& out) {
  const auto word = std::ranges::find(words, node.text);
  if (word != words.end()) out = static_cast<Enum>(word - words.begin());
}

template <typename T>
void optional(const Node& node, std::string_view key, T& out) {
  if (const Node* child = node.find(key)) read(*child, out);
}

template <typename Enum, std::size_t kCount>
void optional_word(const Node& node, std::string_view key,
                   const std::array<std::string_view, kCount>& words, Enum& out) {
  if (const Node* child = node.find(key)) read_word(*child, words, out);
}

inline std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

template <typename Use>
void each(const Node& node, std::string_view key, Use use) {
  const Node* list = node.find(key);
  if (!list) return;
  for (const Node& element : list->children)
    use(element);
}

}  // namespace sluice::policy::binding
