#include "policy/sets.h"

#include <algorithm>

#include "policy/set_file.h"

namespace sluice::policy {

namespace {

using Kind = PolicyFile::Kind;

const PolicyFile* find(std::span<const PolicyFile> files, Kind kind, const std::string& name) {
  const auto found = std::ranges::find_if(
      files, [&](const PolicyFile& file) { return file.kind == kind && file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

void resolve(const Config& config, SetReference& reference) {
  const auto found = std::ranges::find(config.sets, reference.name, &SetConfig::name);
  if (found != config.sets.end()) reference.members = found->members;
}

void resolve(const Config& config, AddressMatch& match) {
  for (SetReference& reference : match.sets)
    resolve(config, reference);
}

void resolve(const Config& config, AccessRules& rules) {
  for (auto* sources : {&rules.allow, &rules.deny}) {
    for (AccessSource& source : *sources) {
      if (source.set) resolve(config, *source.set);
    }
  }
}

void resolve(Config& config) {
  for (Listener& listener : config.listeners)
    resolve(config, listener.access);
  for (Route& route : config.routes)
    resolve(config, route.access);
  if (!config.guard) return;
  for (GuardRule& rule : config.guard->rules) {
    for (AddressMatch* match :
         {&rule.match.from, &rule.match.to, &rule.except.from, &rule.except.to})
      resolve(config, *match);
  }
}

class Loader {
 public:
  Loader(std::span<const PolicyFile> files, const SetReader& reader, Reporter& reporter)
      : files_(files), reader_(reader), reporter_(reporter) {}

  void load(SetConfig& set) {
    AddressSetBuilder builder;
    add_elements(set, builder);
    add_file(set, builder);
    loaded_ += builder.added();
    set.members = set.declared = builder.build();
    const PolicyFile* added = find(files_, Kind::members, set.name);
    if (!added) return;
    builder.add(*set.declared);
    parse_set_file(added->text, SetFormat::cidr, "members of " + set.name, builder, reporter_);
    set.members = builder.build();
  }
  std::size_t loaded() const { return loaded_; }

 private:
  void add_elements(const SetConfig& set, AddressSetBuilder& out) {
    for (const Prefix& element : set.elements) {
      if (element.length > 0) {
        out.add(element);
        continue;
      }
      reporter_.error(set.where,
                      "sets." + set.name + ": " + element.to_string() + " is every address",
                      "leave `from` or `to` out of the rule to mean any");
    }
  }

  void add_file(const SetConfig& set, AddressSetBuilder& out) {
    if (set.file.empty()) return;
    if (const PolicyFile* given = find(files_, Kind::set, set.file))
      return parse_set_file(given->text, set.format, set.file, out, reporter_);
    if (!reader_) return;
    const auto text = reader_(set.file);
    if (text) return parse_set_file(*text, set.format, set.file, out, reporter_);
    reporter_.error(set.file_where,
                    "sets." + set.name + ": cannot read " + set.file + ": " + text.error(),
                    "a relative path is looked for beside this policy file");
  }

  std::span<const PolicyFile> files_;
  const SetReader& reader_;
  Reporter& reporter_;
  std::size_t loaded_ = 0;
};

}  // namespace

void load_sets(Config& config, std::span<const PolicyFile> files, const SetReader& reader,
               Reporter& reporter) {
  Loader loader(files, reader, reporter);
  for (SetConfig& set : config.sets) {
    loader.load(set);
    if (loader.loaded() <= kMaxSetElements) continue;
    reporter.error(set.where,
                   "the sets have more than " + std::to_string(kMaxSetElements) +
                       " addresses and prefixes in all",
                   "wider prefixes");
    break;
  }
  resolve(config);
}

}  // namespace sluice::policy
