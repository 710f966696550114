// One call on its way: the mediator of the proxy (http/mediator.h). What it does to the request is
// in call.cc, to the answer in call_answer.cc.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/ai/endpoint.h"
#include "gateway/ai/filter/text_filter.h"
#include "gateway/ai/proxy/accounting.h"
#include "gateway/ai/proxy/admission.h"
#include "gateway/ai/proxy/answer_filter.h"
#include "gateway/ai/proxy/answer_keeper.h"
#include "gateway/ai/proxy/answer_reader.h"
#include "gateway/ai/proxy/call.h"
#include "gateway/ai/proxy/catalog.h"
#include "gateway/ai/proxy/recording.h"
#include "gateway/ai/proxy/vendor_body.h"

namespace sluice::gateway::ai {

// Of one request. The exchange asks it phase by phase, on its worker.
class Call final : public http::Mediator {
 public:
  Call(Worker& worker, const RefPtr<WorkerConfig>& config, const Asker& asker)
      : worker_(worker),
        config_(config),
        catalog_(*config->ai()),
        caller_(*asker.head),
        path_(asker.path),
        query_(caller_.query()),
        called_(asker.called),
        client_(asker.client),
        admission_(
            catalog_, asker.route,
            asker.claimed ? Catalog::Origin() : Catalog::Origin{asker.client, asker.left_by}) {}

  std::optional<Answer> admit() override;
  void describe(auth::AttributeStore& attributes) const override;
  std::optional<Answer> read(std::string body) override;
  std::uint64_t tokens() const override { return estimate_.tokens; }
  std::string_view model() const override { return model_; }
  std::shared_ptr<SharedTake> shares() override { return admission_.shares(estimate_); }
  std::optional<Answer> take(const SharedVerdict* said) override;

  std::uint32_t upstream() const override { return provider().upstream; }
  std::optional<std::string_view> request(http1::RequestHead& head) override;
  bool next() override;

  OnHead head(const http1::ResponseHead& response) override;
  bool data(std::string_view bytes, std::string& out) override;
  bool end(std::string& out) override;
  const std::string& failure() const override { return failure_; }
  bool has_head() const override { return answer_ && answer_->started(); }
  bool read_head(http1::ResponseHead& head) const override { return answer_->read_head(head); }
  void hold_less() override;
  std::optional<Answer> answer() override;

  Answer refusal(int status, std::string_view reason) override;
  void break_off(std::string_view reason, std::string& out) override;
  std::chrono::nanoseconds patience(bool answering) const override {
    const policy::AiTimeouts& timeouts = provider().timeouts;
    return answering ? timeouts.idle : timeouts.first_token;
  }
  bool waits_for_first() const override { return answer_ && answer_->waits_for_first(); }
  Facts facts() const override;
  void ended(http::Ending ending, int status) override;
  std::optional<std::uint64_t> used_tokens() const override;

 private:
  const Target& target() const { return plan_[at_]; }
  const Provider& provider() const { return catalog_.provider(target().provider); }
  bool same_shape() const { return is_native(endpoint_, provider()); }
  const policy::Price* price_of(const Target& target) const {
    return catalog_.prices().find(catalog_.provider(target.provider).name, target.model);
  }
  std::optional<Problem> keep_priced();
  std::optional<Problem> filter_request();
  bool recall();
  Answer answer_of_cache() const;
  AnswerKeeper::Visit visit() const;
  bool refused_by_filter();
  void keep_answer();
  Cost estimate() const;
  std::optional<Problem> make_plan();
  void ask_resting_last();
  std::vector<std::string_view> names_for_caller() const;
  std::optional<Problem> plan_for_vendor();
  // The caller's own key, where it goes on to whom it was meant for; "": it does not.
  std::string_view passed_key() const;
  // Nullopt: the plan's entry `at_` can be asked.
  std::optional<Problem> prepare();
  void note_failure(const http1::ResponseHead& response);
  void rest_refused_key(int status);
  void rest_as_error_says();
  bool failed();
  http::Ending ending_of(http::Ending ending) const;
  bool has_last_word() const;
  Usage used(http::Ending ending) const;
  void settle(http::Ending ending);
  void count(http::Ending ending, int status, const Usage& usage, const Money& cost) const;
  void audit(http::Ending ending, int status, const Usage& usage, const Money& cost);
  std::string own_lines() const;

  Worker& worker_;
  RefPtr<WorkerConfig> config_;
  const Catalog& catalog_;
  const http1::RequestHead& caller_;
  std::string path_;
  std::string query_;
  // The head's bytes may be gone when the answer ends.
  std::string api_fields_;
  std::string cache_control_;
  std::string called_;  // the vendor's host, of a caught caller
  policy::IpAddress client_;
  Endpoint endpoint_;
  Admission admission_;

  std::optional<CallerBody> body_;
  std::string model_;  // as the caller calls it
  std::vector<Target> plan_;
  std::size_t at_ = 0;

  // The try.
  VendorBody sent_;
  std::size_t key_ = 0;
  std::size_t keys_tried_ = 0;  // of this target
  bool key_failed_ = false;
  std::optional<std::chrono::milliseconds> rest_known_;  // as the head of a 429 says
  bool key_is_callers_ = false;
  std::string head_text_;
  std::optional<AnswerReader> answer_;
  std::string failure_;

  // What stands between the answer and the caller.
  std::optional<TextFilter> filters_;
  std::unique_ptr<AnswerFilter> filter_;  // of this try
  std::optional<Problem> filter_problem_;
  std::string unfiltered_;
  AnswerKeeper keeper_;
  Recording heard_;  // by the caller

  // What is counted.
  KeyRing::Clock::time_point begun_ = KeyRing::Clock::now();
  KeyRing::Clock::time_point first_token_;
  bool admitted_ = false;     // a provider is to be asked
  bool asked_ = false;        // a provider, for this
  CachedAnswerPtr recalled_;  // what the cache had; null: nothing
  Cost estimate_;             // of what is asked for
  struct Used {
    Usage usage;
    Money cost;
  };
  std::optional<Used> used_;
};

}  // namespace sluice::gateway::ai
