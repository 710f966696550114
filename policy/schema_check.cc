#include "policy/schema_check.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "policy/nearest_name.h"
#include "policy/regex.h"
#include "policy/units.h"
#include "policy/value_check.h"
#include "policy/value_shape.h"

namespace sluice::policy {

namespace {

const Field* child_of(const Field& field, std::string_view name) {
  const auto found = std::ranges::find(field.children, name, &Field::name);
  return found == field.children.end() ? nullptr : &*found;
}

std::vector<std::string_view> names_of(std::span<const Field> fields) {
  std::vector<std::string_view> names;
  for (const Field& field : fields)
    names.push_back(field.name);
  return names;
}

// Where a value stands, such as routes[3].path: written out for messages alone. The parent and the
// key outlive it.
class KeyPath {
 public:
  KeyPath() = default;  // the policy itself
  KeyPath(const KeyPath& parent, std::string_view key) : parent_(&parent), key_(key) {}
  KeyPath(const KeyPath& parent, std::size_t index) : parent_(&parent), index_(index) {}

  std::string text() const {
    if (parent_ == nullptr) return {};
    std::string text = parent_->text();
    if (index_) return text + "[" + std::to_string(*index_) + "]";
    return text.empty() ? printable(key_) : text + "." + printable(key_);
  }

 private:
  const KeyPath* parent_ = nullptr;
  std::string_view key_;
  std::optional<std::size_t> index_;
};

std::string operator+(const KeyPath& path, std::string_view more) {
  return path.text().append(more);
}

std::string within(const KeyPath& path) {
  const std::string text = path.text();
  return text.empty() ? "the policy" : text;
}

class Checker {
 public:
  Checker(const Node& root, Reporter& reporter) : root_(root), reporter_(reporter) {}

  void field(const Node& node, const Field& field, const KeyPath& path) {
    if (reporter_.full()) return;
    switch (field.shape) {
      case Shape::one:
        return value(node, field, path);
      case Shape::list:
        return list(node, field, path);
      case Shape::map:
        return entries(node, field, path);
    }
  }

 private:
  void value(const Node& node, const Field& field, const KeyPath& path) {
    if (field.type == Type::object) return object(node, field, path);
    if (node.kind != Node::Kind::scalar) {
      reporter_.error(node.kind == Node::Kind::null ? node.where() : node.at,
                      node.kind == Node::Kind::null
                          ? path + " has no value"
                          : path + " is a single value, not a " + kind_name(node),
                      field.example.empty() ? "" : "such as " + std::string(field.example));
      return;
    }
    if (const Verdict problem = check_value(field, node.text)) {
      reporter_.error(node.at, path + ": " + problem->what, problem->hint);
    } else if (field.type == Type::regex) {
      regex(node, path);
    } else if (!field.refers.empty() && !parse_integer(node.text)) {
      reference(node, field, path);
    }
  }

  void regex(const Node& node, const KeyPath& path) {
    const auto compiled = Regex::compile(node.text);
    if (!compiled) {
      reporter_.error(node.at,
                      path + ": " + in_backticks(node.text) +
                          " is not a regular expression: " + printable(compiled.error()),
                      "RE2's syntax: no look-around, no back-references");
      return;
    }
    const bool fitted = regex_cost_ <= Regex::kMaxTotalCost;
    regex_cost_ += compiled->cost();
    if (!fitted || regex_cost_ <= Regex::kMaxTotalCost) return;
    reporter_.error(node.at, path + ": the policy's regular expressions are too large in all",
                    "simpler ones; prefixes and exact paths cost nothing");
  }

  void reference(const Node& node, const Field& field, const KeyPath& path) {
    const auto& known = names_in(field.refers);
    if (std::ranges::binary_search(known, std::string_view(node.text))) return;
    if (field.refers == "upstreams" && node.text == kOriginalDestination) return;  // implicit
    std::string kind(field.refers);
    if (kind.ends_with('s')) kind.pop_back();
    reporter_.error(node.at, path + ": there is no " + kind + " " + in_backticks(node.text),
                    known.empty() ? "the policy has no " + std::string(field.refers)
                                  : suggestion(node.text, known));
  }

  // The names that the policy gives in a top-level map, sorted.
  const std::vector<std::string_view>& names_in(std::string_view map) {
    const auto [found, fresh] = names_.try_emplace(map);
    if (!fresh) return found->second;
    if (const Node* node = root_.find(map)) {
      for (const Node& entry : node->children)
        found->second.push_back(entry.key);
    }
    std::ranges::sort(found->second);
    const auto repeats = std::ranges::unique(found->second);
    found->second.erase(repeats.begin(), repeats.end());
    return found->second;
  }

  void object(const Node& node, const Field& field, const KeyPath& path) {
    if (node.kind == Node::Kind::scalar && !field.shorthand.empty()) {
      return value(node, *child_of(field, field.shorthand), path);
    }
    if (node.kind == Node::Kind::scalar || node.kind == Node::Kind::list) {
      reporter_.error(node.at, within(path) + " is a map of keys, not a " + kind_name(node),
                      suggestion("", names_of(field.children)));
      return;
    }
    repeated(node, path);
    std::vector<std::string_view> misspelt;
    for (const Node& entry : node.children) {
      if (reporter_.full()) return;
      if (const Field* known = child_of(field, entry.key)) {
        excluded(node, entry, *known, path);
        this->field(entry, *known, KeyPath(path, entry.key));
      } else {
        const auto names = names_of(field.children);
        misspelt.push_back(nearest_name(entry.key, names));
        reporter_.error(entry.key_at,
                        "unknown key " + in_backticks(entry.key) + " in " + within(path),
                        suggestion(entry.key, names));
      }
    }
    missing(node, field, path, misspelt);
    if (field.choice && node.children.empty()) {
      std::string names;
      for (const Field& child : field.children) {
        const bool last = &child == &field.children.back();
        names += (names.empty() ? "" : last ? " or " : ", ") + in_backticks(child.name);
      }
      reporter_.error(node.at, within(path) + " is empty", names);
    }
  }

  void excluded(const Node& node, const Node& entry, const Field& field, const KeyPath& path) {
    std::string_view left = field.excludes;
    while (!left.empty()) {
      const std::size_t end = std::min(left.find(' '), left.size());
      const std::string_view other = left.substr(0, end);
      left.remove_prefix(std::min(end + 1, left.size()));
      const Node* beside = node.find(other);
      if (!beside) continue;
      reporter_.error(entry.key_at,
                      in_backticks(entry.key) + " and " + in_backticks(other) +
                          " cannot both stand in " + within(path),
                      "the other at " + reporter_.locate(beside->key_at).to_string());
    }
  }

  // A required key that was only misspelt is one mistake, not two.
  void missing(const Node& node, const Field& field, const KeyPath& path,
               const std::vector<std::string_view>& misspelt) {
    for (const Field& child : field.children) {
      if (!child.required || node.find(child.name)) continue;
      if (std::ranges::find(misspelt, child.name) != misspelt.end()) continue;
      reporter_.error(
          node.where(), within(path) + " needs " + in_backticks(child.name),
          "such as `" + std::string(child.name) + ": " + std::string(child.example) + "`");
    }
  }

  void repeated(const Node& node, const KeyPath& path) {
    // Most maps have a few keys.
    constexpr std::size_t kFew = 12;
    if (node.children.size() <= kFew) return repeated_among_few(node, path);
    std::unordered_map<std::string_view, Place> seen;
    for (const Node& entry : node.children) {
      const auto [first, added] = seen.emplace(entry.key, entry.key_at);
      if (!added) set_twice(entry, first->second, path);
    }
  }

  void repeated_among_few(const Node& node, const KeyPath& path) {
    for (auto entry = node.children.begin(); entry != node.children.end(); ++entry) {
      const auto first = std::ranges::find(node.children.begin(), entry, entry->key, &Node::key);
      if (first != entry) set_twice(*entry, first->key_at, path);
    }
  }

  void set_twice(const Node& entry, Place first, const KeyPath& path) {
    if (reporter_.full()) return;
    reporter_.error(entry.key_at, in_backticks(entry.key) + " is set twice in " + within(path),
                    "first at " + reporter_.locate(first).to_string());
  }

  void list(const Node& node, const Field& field, const KeyPath& path) {
    const bool word = node.kind == Node::Kind::scalar &&
                      std::ranges::find(field.words, node.text) != field.words.end();
    if (node.kind == Node::Kind::map && field.choice) return value(node, field, path);
    if (word && field.type != Type::word) return;
    const std::string what_to_do =
        field.required ? "such as " + std::string(field.example) : "leave it out to mean any";
    if (node.kind == Node::Kind::null) {
      if (needs_some(field)) reporter_.error(node.where(), path + " has no value", what_to_do);
      return;
    }
    if (node.kind != Node::Kind::list) {
      reporter_.error(node.at, path + " is a list, not a " + kind_name(node),
                      node.kind == Node::Kind::scalar
                          ? "did you mean `[" + printable(node.text) + "]`?"
                          : "such as " + std::string(field.example));
      return;
    }
    if (node.children.empty() && needs_some(field))
      reporter_.error(node.at, path + " is an empty list", what_to_do);
    Field element = field;
    if (field.type != Type::word) element.words = {};
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      value(node.children[i], element, KeyPath(path, i));
    }
  }

  void entries(const Node& node, const Field& field, const KeyPath& path) {
    if (node.kind == Node::Kind::null) return;
    if (node.kind != Node::Kind::map) {
      reporter_.error(node.at, path + " is a map of names, not a " + kind_name(node),
                      "such as " + std::string(field.example));
      return;
    }
    repeated(node, path);
    for (const Node& entry : node.children) {
      const Verdict problem = field.free_names ? check_text(entry.key) : check_name(entry.key);
      if (problem) {
        reporter_.error(entry.key_at, path + ": " + problem->what, problem->hint);
      }
      value(entry, field, KeyPath(path, entry.key));
    }
  }

  static std::string kind_name(const Node& node) {
    switch (node.kind) {
      case Node::Kind::null:
        return "nothing";
      case Node::Kind::scalar:
        return "single value";
      case Node::Kind::list:
        return "list";
      case Node::Kind::map:
        return "map";
    }
    return "";
  }

  const Node& root_;
  Reporter& reporter_;
  std::size_t regex_cost_ = 0;  // of all so far
  std::unordered_map<std::string_view, std::vector<std::string_view>> names_;
};

void append(Node& into, Node&& more) {
  std::ranges::move(more.children, std::back_inserter(into.children));
}

bool mergeable(const Node& a, const Node& b, const Field& field) {
  if (field.shape == Shape::list) return a.kind == Node::Kind::list && b.kind == Node::Kind::list;
  const bool maps = a.kind == Node::Kind::map && b.kind == Node::Kind::map;
  return maps && (field.shape == Shape::map || field.type == Type::object);
}

}  // namespace

void merge(Node& into, Node&& more, const Field& field) {
  const std::size_t before = into.children.size();
  for (Node& entry : more.children) {
    const auto old = std::ranges::find(into.children.begin(),
                                       into.children.begin() + static_cast<std::ptrdiff_t>(before),
                                       entry.key, &Node::key);
    const Field* known = child_of(field, entry.key);
    const bool both = old != into.children.begin() + static_cast<std::ptrdiff_t>(before);
    if (!both || !known) {
      into.children.push_back(std::move(entry));
    } else if (old->kind == Node::Kind::null) {
      *old = std::move(entry);
    } else if (entry.kind == Node::Kind::null ||
               (known->required && old->text == entry.text && entry.kind == Node::Kind::scalar)) {
      continue;  // each file may say `version: 1`
    } else if (!mergeable(*old, entry, *known)) {
      into.children.push_back(std::move(entry));
    } else if (known->shape == Shape::one) {
      merge(*old, std::move(entry), *known);
    } else {
      append(*old, std::move(entry));
    }
  }
}

void check(const Node& root, const Field& field, Reporter& reporter) {
  Checker(root, reporter).field(root, field, {});
}

}  // namespace sluice::policy
