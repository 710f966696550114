#include "policy/pods.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace sluice::policy {
namespace {

constexpr std::size_t kMaxName = 253;
constexpr std::size_t kMaxLabelPart = 63;

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_part(char c) {
  return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
}

bool is_word(std::string_view text, std::size_t longest) {
  return !text.empty() && text.size() <= longest && is_alphanumeric(text.front()) &&
         is_alphanumeric(text.back()) && std::ranges::all_of(text, is_part);
}

// Calls use(piece) for what lies between `mark`s; false as soon as that is.
template <typename Use>
bool each_piece(std::string_view text, char mark, Use use) {
  while (true) {
    const std::size_t end = text.find(mark);
    if (!use(text.substr(0, end))) return false;
    if (end == std::string_view::npos) return true;
    text.remove_prefix(end + 1);
  }
}

bool read_labels(std::string_view text, std::vector<PodLabel>& out) {
  if (text == "-") return true;
  return each_piece(text, ',', [&](std::string_view piece) {
    const std::size_t equals = piece.find('=');
    if (equals == std::string_view::npos || !is_label_key(piece.substr(0, equals)) ||
        !is_label_value(piece.substr(equals + 1)))
      return false;
    out.emplace_back(piece.substr(0, equals), piece.substr(equals + 1));
    return true;
  });
}

bool read_addresses(std::string_view text, std::vector<IpAddress>& out) {
  return each_piece(text, ',', [&](std::string_view piece) {
    const auto address = IpAddress::parse(piece);
    if (address) out.push_back(*address);
    return address.has_value();
  });
}

bool same_pod(const Pod& a, const Pod& b) {
  return a.name_space == b.name_space && a.name == b.name && a.uid == b.uid;
}

std::optional<Pod> read_line(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t second = first == std::string_view::npos ? first : line.find(' ', first + 1);
  if (second == std::string_view::npos) return std::nullopt;
  const std::string_view who = line.substr(0, first);
  const std::size_t slash = who.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  Pod pod;
  pod.name_space = who.substr(0, slash);
  const std::size_t second_slash = std::min(who.find('/', slash + 1), who.size());
  pod.name = who.substr(slash + 1, second_slash - slash - 1);
  const bool has_uid = second_slash < who.size();
  if (has_uid) pod.uid = who.substr(second_slash + 1);
  const bool good = is_word(pod.name_space, kMaxLabelPart) && is_word(pod.name, kMaxName) &&
                    (!has_uid || is_word(pod.uid, kMaxLabelPart)) &&
                    read_addresses(line.substr(first + 1, second - first - 1), pod.addresses) &&
                    read_labels(line.substr(second + 1), pod.labels);
  if (!good) return std::nullopt;
  std::ranges::sort(pod.labels);
  return pod;
}

}  // namespace

std::string PodSelector::text() const {
  std::string out = "pods:" + (name_space.empty() ? std::string("*") : name_space) + "/";
  for (const PodLabel& label : labels) {
    if (&label != &labels.front()) out += ',';
    out.append(label.first).append("=").append(label.second);
  }
  return out;
}

bool is_label_key(std::string_view key) {
  const std::size_t slash = key.find('/');
  if (slash == std::string_view::npos) return is_word(key, kMaxLabelPart);
  return is_word(key.substr(0, slash), kMaxName) && is_word(key.substr(slash + 1), kMaxLabelPart);
}

bool is_label_value(std::string_view value) {
  return value.empty() || is_word(value, kMaxLabelPart);
}

std::string to_text(std::span<const Pod> pods) {
  std::string out;
  for (const Pod& pod : pods) {
    out.append(pod.name_space).append("/").append(pod.name);
    if (!pod.uid.empty()) out.append("/").append(pod.uid);
    out += ' ';
    for (const IpAddress& address : pod.addresses) {
      if (&address != &pod.addresses.front()) out += ',';
      out += address.to_string();
    }
    out += ' ';
    if (pod.labels.empty()) out += '-';
    for (const PodLabel& label : pod.labels) {
      if (&label != &pod.labels.front()) out += ',';
      out.append(label.first).append("=").append(label.second);
    }
    out += '\n';
  }
  return out;
}

std::vector<Pod> parse_pods(std::string_view text) {
  std::vector<Pod> out;
  each_piece(text, '\n', [&](std::string_view line) {
    if (auto pod = read_line(line)) out.push_back(std::move(*pod));
    return out.size() < kMaxPods;
  });
  return out;
}

bool selects(const PodSelector& selector, const Pod& pod) {
  const bool here = selector.name_space.empty() ? pod.name_space != kSystemNamespace
                                                : pod.name_space == selector.name_space;
  return here && !selector.labels.empty() &&
         std::ranges::all_of(selector.labels, [&](const PodLabel& label) {
           return std::ranges::binary_search(pod.labels, label);
         });
}

std::vector<IpAddress> addresses_gone(std::span<const Pod> before, std::span<const Pod> now) {
  std::map<IpAddress, const Pod*> owners;
  for (const Pod& pod : now) {
    for (const IpAddress& address : pod.addresses)
      owners[address] = &pod;
  }
  std::set<IpAddress> gone;
  for (const Pod& pod : before) {
    for (const IpAddress& address : pod.addresses) {
      const auto owner = owners.find(address);
      if (owner == owners.end() || !same_pod(*owner->second, pod)) gone.insert(address);
    }
  }
  return {gone.begin(), gone.end()};
}

void add_selected(const PodSelector& selector, std::span<const Pod> pods, AddressSetBuilder& out) {
  for (const Pod& pod : pods) {
    if (!selects(selector, pod)) continue;
    for (const IpAddress& address : pod.addresses)
      out.add(Prefix{.address = address,
                     .length = static_cast<std::uint8_t>(address.is_v4() ? 32 : 128)});
  }
}

}  // namespace sluice::policy
