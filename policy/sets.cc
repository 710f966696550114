#include "policy/sets.h"

#include <algorithm>
#include <iterator>
#include <memory>

#include "policy/pod_owners.h"
#include "policy/pods.h"
#include "policy/set_file.h"
#include "policy/set_references.h"

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

void append(const std::vector<SetReference>& sets, std::vector<Prefix>& out) {
  for (const SetReference& set : sets)
    std::ranges::copy(set.members->prefixes(), std::back_inserter(out));
}

// Where pods are named, and none is there, nobody is meant, and not everybody: the unspecified
// addresses, from which no packet comes, stand for that.
void catch_pods(Intercept& entry) {
  append(entry.except.from_pods, entry.except.from);
  if (entry.from_pods.empty()) return;
  append(entry.from_pods, entry.from);
  entry.from.push_back({IpAddress::v4(0), 32});
  entry.from.push_back({IpAddress(), 128});
}

void resolve(Config& config) {
  each_set_reference(config, [&](SetReference& reference) { resolve(config, reference); });
  for (auto* entries :
       {&config.intercept.local, &config.intercept.forward, &config.intercept.output}) {
    for (Intercept& entry : *entries)
      catch_pods(entry);
  }
}

class Loader {
 public:
  Loader(std::span<const PolicyFile> files, const SetReader& reader, Reporter& reporter)
      : files_(files), reader_(reader), reporter_(reporter) {
    const auto pods = std::ranges::find(files_, Kind::pods, &PolicyFile::kind);
    if (pods != files_.end()) pods_ = parse_pods(pods->text);
  }

  void load(SetConfig& set) {
    AddressSetBuilder builder;
    add_elements(set, builder);
    add_file(set, builder);
    loaded_ += builder.added();
    set.members = set.declared = builder.build();
    const PolicyFile* added = find(files_, Kind::members, set.name);
    if (!added && !set.pods) return;
    builder.add(*set.declared);
    if (set.pods) add_selected(*set.pods, pods_, builder);
    if (added)
      parse_set_file(added->text, SetFormat::cidr, "members of " + set.name, builder, reporter_);
    set.members = builder.build();
  }
  std::size_t loaded() const { return loaded_; }
  const std::vector<Pod>& pods() const { return pods_; }

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
  std::vector<Pod> pods_;
  std::size_t loaded_ = 0;
};

// A key of client_ip alone has an address in it; gateways of other nodes, with whom limits of the
// cluster are shared, do not know this node's pods.
bool counts_addresses(const Limit& limit) {
  return limit.scope == LimitScope::per_node &&
         std::ranges::find(limit.key, LimitKey::client_ip, &LimitKeyPart::kind) != limit.key.end();
}

void name_owners(Config& config, std::span<const Pod> pods) {
  std::vector<PodSelector> selectors;
  for (const SetConfig& set : config.sets) {
    if (set.pods) selectors.push_back(*set.pods);
  }
  if (selectors.empty()) return;
  const auto owners = std::make_shared<const PodOwners>(pods, selectors);
  for (Limit& limit : config.limits) {
    if (counts_addresses(limit)) limit.pods = owners;
  }
}

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
  name_owners(config, loader.pods());
}

}  // namespace sluice::policy
