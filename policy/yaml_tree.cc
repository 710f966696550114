#include "policy/yaml_tree.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <yaml.h>

namespace sluice::policy {

const Node* Node::find(std::string_view name) const {
  const auto found = std::ranges::find(children, name, &Node::key);
  return found == children.end() ? nullptr : &*found;
}

Location Reporter::locate(Place at) const {
  if (at.file >= files_.size()) return {};
  return {files_[at.file].name, static_cast<int>(at.line), static_cast<int>(at.column)};
}

void Reporter::error(Place at, std::string message, std::string hint) {
  error(locate(at), std::move(message), std::move(hint));
}

void Reporter::error(Location at, std::string message, std::string hint) {
  add({Diagnostic::Severity::error, std::move(at), std::move(message), std::move(hint)});
}

void Reporter::warning(Location at, std::string message, std::string hint) {
  add({Diagnostic::Severity::warning, std::move(at), std::move(message), std::move(hint)});
}

void Reporter::add(Diagnostic diagnostic) {
  if (diagnostics_.size() < kMostDiagnostics) {
    diagnostics_.push_back(std::move(diagnostic));
  } else if (diagnostics_.size() == kMostDiagnostics) {
    diagnostics_.push_back({Diagnostic::Severity::error, std::move(diagnostic.where),
                            "more problems follow; mend these first", ""});
  }
}

std::size_t Reporter::rank(const std::string& file) const {
  return static_cast<std::size_t>(std::ranges::find(files_, file, &PolicyFile::name) -
                                  files_.begin());
}

Diagnostics Reporter::take() {
  std::ranges::stable_sort(diagnostics_, {}, [this](const Diagnostic& diagnostic) {
    const Location& where = diagnostic.where;
    return std::tuple(rank(where.file), where.line, where.column);
  });
  return std::move(diagnostics_);
}

namespace {

constexpr const char* kOneDocument = "a policy file holds one YAML document";
constexpr const char* kOneDocumentHint = "make what follows `---` a file of its own";

class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  yaml_event_t* operator->() { return &event_; }
  yaml_event_t* get() { return &event_; }

 private:
  yaml_event_t event_{};
};

class Parser {
 public:
  explicit Parser(std::string_view text) {
    made_ = yaml_parser_initialize(&parser_) != 0;
    if (!made_) return;
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~Parser() {
    if (made_) yaml_parser_delete(&parser_);
  }
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;
  bool next(Event& event) { return made_ && yaml_parser_parse(&parser_, event.get()) != 0; }
  const yaml_parser_t& state() const { return parser_; }

 private:
  yaml_parser_t parser_{};
  bool made_ = false;
};

std::string_view text_of(const yaml_char_t* text, std::size_t size) {
  return {reinterpret_cast<const char*>(text), size};
}

// YAML's core schema, and nothing at all.
bool means_null(std::string_view plain) {
  return plain.empty() || plain == "~" || plain == "null" || plain == "Null" || plain == "NULL";
}

// Events in, a tree out. Each function returns false when the rest is not worth reading: what was
// wrong is reported then.
class TreeBuilder {
 public:
  TreeBuilder(std::uint32_t file, std::size_t& node_budget, Reporter& reporter)
      : file_(file), budget_(node_budget), reporter_(reporter) {}

  Node take_root() { return std::move(root_); }

  bool take(yaml_event_t& event) {
    switch (event.type) {
      case YAML_ALIAS_EVENT:
        return fail(event, "aliases (`*name`) are not part of a policy", "write the value out");
      case YAML_SCALAR_EVENT:
        return scalar(event);
      case YAML_SEQUENCE_START_EVENT:
        return open(Node::Kind::list, event, event.data.sequence_start.tag);
      case YAML_MAPPING_START_EVENT:
        return open(Node::Kind::map, event, event.data.mapping_start.tag);
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        close();
        return true;
      case YAML_DOCUMENT_START_EVENT:
        return ++documents_ == 1 || fail(event, kOneDocument, kOneDocumentHint);
      default:
        return true;
    }
  }

  // Where the innermost map or list began that is not closed; line 0: all are.
  Place unclosed() const { return levels_.empty() ? Place{} : levels_.back().node.at; }

  Place place(const yaml_mark_t& mark) const {
    return {file_, static_cast<std::uint32_t>(mark.line + 1),
            static_cast<std::uint32_t>(mark.column + 1)};
  }

 private:
  struct Level {
    Node node;
    std::string key;  // read, its value still to come
    Place key_at;
    bool has_key = false;
  };

  bool fail(const yaml_event_t& event, const char* message, const char* hint) {
    reporter_.error(place(event.start_mark), message, hint);
    return false;
  }

  bool refuse_tag(const yaml_event_t& event, const yaml_char_t* tag) {
    if (tag == nullptr || tag[0] == '\0' || (tag[0] == '!' && tag[1] == '\0')) return true;
    return fail(event, "tags (`!name`) are not part of a policy", "remove the tag");
  }

  bool afford(const yaml_event_t& event) {
    if (budget_ == 0)
      return fail(event, "the policy has too many entries", "at most 1000000 in all files");
    --budget_;
    return true;
  }

  bool scalar(const yaml_event_t& event) {
    const auto& scalar = event.data.scalar;
    if (!refuse_tag(event, scalar.tag) || !afford(event)) return false;
    Node made;
    made.at = place(event.start_mark);
    const std::string_view text = text_of(scalar.value, scalar.length);
    const bool null = scalar.style == YAML_PLAIN_SCALAR_STYLE && means_null(text);
    made.kind = null ? Node::Kind::null : Node::Kind::scalar;
    if (!null) made.text = text;
    add(std::move(made));
    return true;
  }

  bool open(Node::Kind kind, const yaml_event_t& event, const yaml_char_t* tag) {
    if (!refuse_tag(event, tag) || !afford(event)) return false;
    if (levels_.size() >= static_cast<std::size_t>(kMaxPolicyDepth))
      return fail(event, "nested too deeply", "at most 64 levels");
    if (expects_key()) return fail(event, "a key must be plain text", "");
    Node made;
    made.kind = kind;
    made.at = place(event.start_mark);
    levels_.push_back({.node = std::move(made), .key = {}, .key_at = {}});
    return true;
  }

  void close() {
    Node done = std::move(levels_.back().node);
    levels_.pop_back();
    add(std::move(done));
  }

  bool expects_key() const {
    return !levels_.empty() && levels_.back().node.kind == Node::Kind::map &&
           !levels_.back().has_key;
  }

  void add(Node value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return;
    }
    Level& level = levels_.back();
    if (expects_key()) {
      level.key = std::move(value.text);
      level.key_at = value.at;
      level.has_key = true;
      return;
    }
    if (level.has_key) {
      value.key = std::move(level.key);
      value.key_at = level.key_at;
      level.has_key = false;
    }
    level.node.children.push_back(std::move(value));
  }

  std::uint32_t file_;
  std::size_t& budget_;
  Reporter& reporter_;
  std::vector<Level> levels_;
  std::size_t documents_ = 0;
  Node root_;
};

// A byte that is not UTF-8 has an offset, but no mark.
Place place_of_byte(std::string_view text, std::size_t offset, std::uint32_t file) {
  const std::string_view before = text.substr(0, offset);
  const auto lines = std::ranges::count(before, '\n');
  const auto column = before.size() - (before.rfind('\n') + 1);  // npos + 1 is 0
  return {file, static_cast<std::uint32_t>(lines + 1), static_cast<std::uint32_t>(column + 1)};
}

// libyaml says what it was doing ("while parsing a flow mapping") apart from what went wrong.
std::string said_by(const yaml_parser_t& state) {
  std::string text = state.problem != nullptr ? state.problem : "no memory";
  if (state.context != nullptr) text.append(" ").append(state.context);
  return text;
}

// The mark counts characters, not bytes: only its line is used.
bool indented_by_tab(std::string_view text, std::size_t line) {
  for (; line > 0 && !text.empty(); --line)
    text.remove_prefix(std::min(text.size(), text.find('\n') + 1));
  const std::size_t first = text.find_first_not_of(' ');
  return first != std::string_view::npos && text[first] == '\t';
}

void report(const yaml_parser_t& state, std::string_view text, std::uint32_t file,
            const TreeBuilder& builder, Reporter& reporter) {
  const Place at = state.error == YAML_READER_ERROR
                       ? place_of_byte(text, state.problem_offset, file)
                       : builder.place(state.problem_mark);
  const Place open = builder.unclosed();
  if (state.error == YAML_PARSER_ERROR && state.problem_mark.index >= text.size() && open.line != 0)
    return reporter.error(
        at, "not YAML: the file ends inside the map or list of line " + std::to_string(open.line),
        "close its bracket");
  if (state.error == YAML_SCANNER_ERROR && indented_by_tab(text, state.problem_mark.line))
    return reporter.error(at, "not YAML: a tab cannot indent", "use spaces");
  reporter.error(at, "not YAML: " + said_by(state));
}

void run_parser(std::string_view text, std::uint32_t file, TreeBuilder& builder,
                Reporter& reporter) {
  Parser parser(text);
  while (true) {
    Event event;
    if (!parser.next(event)) return report(parser.state(), text, file, builder, reporter);
    if (event->type == YAML_STREAM_END_EVENT || !builder.take(*event.get())) return;
  }
}

}  // namespace

Node parse_yaml(std::string_view text, std::uint32_t file, std::size_t& node_budget,
                Reporter& reporter) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  TreeBuilder builder(file, node_budget, reporter);
  run_parser(text, file, builder, reporter);
  Node root = builder.take_root();
  if (root.kind == Node::Kind::scalar || root.kind == Node::Kind::list) {
    reporter.error(root.at, "a policy is a map of keys, such as `version: 1`");
    root = Node{};
  }
  root.kind = Node::Kind::map;
  return root;
}

}  // namespace sluice::policy
