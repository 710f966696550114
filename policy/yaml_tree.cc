#include "policy/yaml_tree.h"

#include <algorithm>
#include <istream>
#include <optional>
#include <streambuf>
#include <tuple>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

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

// Thrown out of yaml-cpp's parser to end it early; what was wrong is reported already.
struct Stop {};

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::uint32_t file, std::size_t& node_budget, Reporter& reporter)
      : file_(file), budget_(node_budget), reporter_(reporter) {}

  Node take_root() { return std::move(root_); }
  Place place(const YAML::Mark& mark) const {
    if (mark.is_null()) return {file_, 0, 0};
    return {file_, static_cast<std::uint32_t>(mark.line + 1),
            static_cast<std::uint32_t>(mark.column + 1)};
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    add(node(Node::Kind::null, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(mark, "aliases (`*name`) are not part of a policy", "write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    refuse_tag(mark, tag);
    Node scalar = node(Node::Kind::scalar, mark);
    scalar.text = value;
    add(std::move(scalar));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::list, mark, tag);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::map, mark, tag);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    Node node;
    std::string key;  // read, its value still to come
    Place key_at;
    bool has_key = false;
  };

  [[noreturn]] void fail(const YAML::Mark& mark, const char* message, const char* hint) {
    reporter_.error(place(mark), message, hint);
    throw Stop{};
  }

  void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") {
      fail(mark, "tags (`!name`) are not part of a policy", "remove the tag");
    }
  }

  Node node(Node::Kind kind, const YAML::Mark& mark) {
    if (budget_ == 0) fail(mark, "the policy has too many entries", "at most 1000000 in all files");
    --budget_;
    Node made;
    made.kind = kind;
    made.at = place(mark);
    return made;
  }

  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag) {
    refuse_tag(mark, tag);
    if (levels_.size() >= static_cast<std::size_t>(kMaxPolicyDepth)) {
      fail(mark, "nested too deeply", "at most 64 levels");
    }
    if (expects_key()) fail(mark, "a key must be plain text", "");
    levels_.push_back({node(kind, mark), {}, {}, false});
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
  Node root_;
};

// Only notes where a second document begins.
class SecondDocument : public YAML::EventHandler {
 public:
  std::optional<YAML::Mark> at;

  void OnDocumentStart(const YAML::Mark& mark) override { at = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// yaml-cpp reads streams; this one lends it the text instead of copying it.
class TextBuffer : public std::streambuf {
 public:
  explicit TextBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // get area only: never written to
    setg(begin, begin, begin + text.size());
  }
};

void run_parser(std::string_view text, TreeBuilder& builder, Reporter& reporter) {
  TextBuffer buffer(text);
  std::istream stream(&buffer);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return;
    SecondDocument second;
    parser.HandleNextDocument(second);
    if (second.at) {
      reporter.error(builder.place(*second.at), "a policy file holds one YAML document",
                     "make what follows `---` a file of its own");
    }
  } catch (const Stop&) {
  } catch (const YAML::ParserException& problem) {
    reporter.error(builder.place(problem.mark), "not YAML: " + problem.msg);
  } catch (const std::exception& problem) {
    reporter.error(builder.place(YAML::Mark::null_mark()),
                   std::string("not YAML: ") + problem.what());
  }
}

}  // namespace

Node parse_yaml(std::string_view text, std::uint32_t file, std::size_t& node_budget,
                Reporter& reporter) {
  TreeBuilder builder(file, node_budget, reporter);
  run_parser(text, builder, reporter);
  Node root = builder.take_root();
  if (root.kind == Node::Kind::scalar || root.kind == Node::Kind::list) {
    reporter.error(root.at, "a policy is a map of keys, such as `version: 1`");
    root = Node{};
  }
  root.kind = Node::Kind::map;
  return root;
}

}  // namespace sluice::policy
