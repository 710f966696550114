#include "kernel/vendor_traffic.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <linux/netfilter.h>
#include <map>
#include <optional>
#include <utility>

#include "kernel/message.h"
#include "kernel/nft_batch.h"
#include "kernel/nft_digest.h"
#include "kernel/nft_sets.h"

namespace sluice::kernel {
namespace {

using Clock = std::chrono::steady_clock;
using Side = NftRule::Side;

constexpr const char* kVendorTable = "sluice_vendors";
constexpr std::chrono::minutes kVendorKept{10};
// Beside other filters, and after `inet sluice` has marked what is caught.
constexpr NftHook kVendorOutput{"filter", NF_INET_LOCAL_OUT, 0};
constexpr NftHook kVendorForward{"filter", NF_INET_FORWARD, 0};
constexpr const char* kVendorJudge = "vendors";
constexpr const char* kVendorAll = "all";
constexpr const char* kVendorRefused = "refused";
constexpr const char* kVendorPorts = "ports";

struct Judged {
  VendorPlan vendors;
  std::vector<Marks> marks;  // of this plan, and of those before that sockets may still carry
  std::vector<Protect> protect;
};

// Rules in their order: what is not a vendor's business, then vendors' addresses of each version.
class VendorTable {
 public:
  VendorTable(const Judged& judged, const std::vector<Prefix>& hosts)
      : batch_(kVendorTable), sets_(batch_), judged_(judged), hosts_(hosts) {}

  NftBatch::Failure write() {
    batch_.add_table();
    batch_.delete_table();
    batch_.add_table();
    write_counters();
    write_judge();
    add_hook("output", kVendorOutput);
    add_hook("forward", kVendorForward);
    return batch_.commit();
  }
  int rules() const { return rules_; }

 private:
  void add(const std::string& chain, const NftRule& rule) {
    batch_.add_rule(chain, rule);
    rules_++;
  }

  void add_hook(const std::string& chain, const NftHook& hook) {
    batch_.add_chain(chain, hook);
    add(chain, NftRule().jump(kVendorJudge));
  }

  void write_counters() {
    batch_.add_chain(kVendorAll);
    if (judged_.vendors.reject) {
      sets_.add_ports(kVendorPorts, judged_.vendors.ports);
      batch_.add_chain(kVendorRefused);
      add(kVendorRefused, NftRule().count());
      add(kVendorRefused, std::move(NftRule().is_tcp().reset_tcp()));
      add(kVendorRefused, NftRule().reject());
    }
    add(kVendorAll, NftRule().count());
    if (!judged_.vendors.reject) return;
    // What is open goes on, and whoever is called from there may answer.
    add(kVendorAll, std::move(NftRule()
                                  .is_tcp()
                                  .opens_connection(true)
                                  .destination_port_in(kVendorPorts)
                                  .jump(kVendorRefused)));
    add(kVendorAll,
        std::move(NftRule().is_udp().destination_port_in(kVendorPorts).jump(kVendorRefused)));
  }

  void write_judge() {
    batch_.add_chain(kVendorJudge);
    for (const Marks& marks : judged_.marks) {
      add(kVendorJudge, std::move(NftRule().mark_is(marks.gateway(), marks.mask).accept()));
      add(kVendorJudge,
          std::move(NftRule().mark_is(marks.intercepted_output(), marks.mask).accept()));
    }
    add(kVendorJudge, std::move(NftRule().destination_is_local().accept()));
    write_protect();
    for (const bool v4 : {true, false}) {
      std::vector<Prefix> hosts;
      std::ranges::copy_if(hosts_, std::back_inserter(hosts),
                           [&](const Prefix& host) { return host.v4 == v4; });
      if (hosts.empty()) continue;
      const std::string name = v4 ? "hosts_v4" : "hosts_v6";
      sets_.add_addresses(name, v4, hosts);
      add(kVendorJudge,
          std::move(
              NftRule().is_version(v4).address_in(Side::destination, v4, name).jump(kVendorAll)));
    }
  }

  // On every interface, and both ways but for servers: it can only spare more.
  void write_protect() {
    int number = 0;
    for (const Protect& protect : judged_.protect) {
      if (protect.upstream) continue;
      const bool v4 = protect.peer.v4;
      const std::string name = "protect" + std::to_string(number++);
      sets_.add_addresses(name, v4, {protect.peer});
      const std::string ports =
          protect.to_ports.empty() ? "" : sets_.ports_of(name + "_ports", protect.to_ports);
      for (const Side side : {Side::destination, Side::source}) {
        if (side == Side::source && protect.server_only) continue;
        NftRule rule;
        rule.is_version(v4).address_in(side, v4, name);
        if (!ports.empty()) rule.destination_port_in(ports);
        add(kVendorJudge, rule.accept());
      }
    }
  }

  NftBatch batch_;
  NftSets sets_;
  const Judged& judged_;
  const std::vector<Prefix>& hosts_;
  int rules_ = 0;
};

class VendorTrafficImpl final : public VendorTraffic {
 public:
  Result<void> commit(const Plan& plan) override {
    before_ = std::exchange(judged_, std::nullopt);
    if (plan.vendors) judged_ = Judged{*plan.vendors, marks_with(plan.marks), plan.protect};
    auto ok = write();
    if (!ok) revert();
    return ok;
  }

  void revert() override {
    judged_ = std::exchange(before_, std::nullopt);
    static_cast<void>(write());  // the next tick tries again
  }

  void follow(std::vector<Prefix> hosts) override {
    for (const Prefix& host : hosts)
      if (known_.size() < kMaxHosts || known_.contains(host)) known_[host] = Clock::now();
    std::erase_if(known_,
                  [](const auto& entry) { return Clock::now() - entry.second > kVendorKept; });
  }

  Result<void> tick() override {
    if (!judged_) return {};
    latest_ = counted();
    if (hosts_ == wanted_hosts() && count_nft_rules(kVendorTable) == rules_) return {};
    return write();
  }

  void remove() override {
    judged_.reset();
    static_cast<void>(write());
  }

  std::vector<Prefix> hosts() const override { return judged_ ? hosts_ : std::vector<Prefix>(); }
  std::vector<Sample> samples() const override;

 private:
  std::vector<Prefix> wanted_hosts() const {
    std::vector<Prefix> hosts;
    if (judged_) hosts = judged_->vendors.hosts;
    for (const auto& [host, seen] : known_)
      hosts.push_back(host);
    return hosts;
  }
  std::vector<Marks> marks_with(const Marks& now) const {
    std::vector<Marks> out{now};
    if (!before_) return out;
    for (const Marks& former : before_->marks)
      if (former.mark != now.mark) out.push_back(former);
    return out;
  }
  // Since the table was last written. Of one that others removed, as it was at the last tick.
  struct Counts {
    NftCount all, refused;
  };
  Counts counted() const {
    if (rules_ == 0) return {};
    const Counts now{nft_count_of(kVendorTable, kVendorAll),
                     nft_count_of(kVendorTable, kVendorRefused)};
    return now.all.bytes < latest_.all.bytes ? latest_ : now;
  }
  Result<void> write();

  std::optional<Judged> judged_;
  std::optional<Judged> before_;               // of the last commit
  std::map<Prefix, Clock::time_point> known_;  // by DNS
  std::vector<Prefix> hosts_;                  // in the table
  int rules_ = 0;                              // likewise; 0: there is none
  Counts latest_;                              // as of the last tick
  Counts before_this_;                         // in tables before this one
};

// What a table has counted would go with it.
Result<void> VendorTrafficImpl::write() {
  if (!judged_ && count_nft_rules(kVendorTable) < 0) return {};  // else it is of one that crashed
  const Counts last = counted();
  before_this_.all += last.all;
  before_this_.refused += last.refused;
  latest_ = {};
  rules_ = 0;
  hosts_ = wanted_hosts();
  NftBatch::Failure failure;
  if (judged_) {
    VendorTable table(*judged_, hosts_);
    failure = table.write();
    if (failure.error == 0) rules_ = table.rules();
  } else {
    NftBatch batch(kVendorTable);
    batch.add_table();  // a deletion of what is not there fails
    batch.delete_table();
    failure = batch.commit();
  }
  if (failure.error == 0) return {};
  return std::unexpected(Error{
      message("nftables refuses {} of ai.bypass: {}", failure.what, std::strerror(failure.error))});
}

std::vector<Sample> VendorTrafficImpl::samples() const {
  if (!judged_) return {};
  auto [all, refused] = counted();
  all += before_this_.all;
  refused += before_this_.refused;
  const std::string help =
      "Bytes of packets from this node, or through it, to vendors' addresses around the gateway "
      "(`ai.bypass`), by `result`: passed, or rejected.";
  const auto sample = [&](const char* result, std::uint64_t bytes) {
    return Sample{"sluice_ai_unmetered_bytes_total",
                  {{"result", result}},
                  static_cast<double>(bytes),
                  true,
                  help};
  };
  return {sample("passed", all.bytes - std::min(refused.bytes, all.bytes)),
          sample("rejected", refused.bytes),
          {"sluice_ai_vendor_addresses",
           {},
           static_cast<double>(hosts_.size()),
           false,
           "Addresses that are taken for vendors' by `ai.bypass`."}};
}

}  // namespace

std::unique_ptr<VendorTraffic> VendorTraffic::create() {
  return std::make_unique<VendorTrafficImpl>();
}

bool remove_vendor_traffic() {
  if (count_nft_rules(kVendorTable) < 0) return false;
  NftBatch batch(kVendorTable);
  batch.add_table();
  batch.delete_table();
  return batch.commit().error == 0;
}

}  // namespace sluice::kernel
