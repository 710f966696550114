#include "gateway/ai/proxy/answer_filter.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/ai/filter/json_filter.h"
#include "gateway/ai/sse.h"

namespace sluice::gateway::ai {

Findings AnswerFilter::findings() const {
  Findings all = of_whole_;
  for (const Findings::Hit& hit : redactor_.findings().hits)
    all.hits.push_back(hit);
  return all;
}

bool AnswerFilter::judge() {
  if (refused_ == nullptr) refused_ = filter_.refuses(redactor_.findings());
  if (refused_ == nullptr) refused_ = filter_.refuses(of_whole_);
  return refused_ == nullptr;
}

bool AnswerFilter::feed(std::string_view bytes, std::string& out) {
  if (as_array_) {
    list_.append(bytes);
    return true;
  }
  std::string ready;
  redactor_.feed(bytes, ready);
  if (!judge()) return false;
  out.append(ready);
  return true;
}

// A list is filtered as the events that it is made of.
bool AnswerFilter::end(std::string& out) {
  if (!as_array_) {
    std::string rest;
    redactor_.end(rest);
    if (!judge()) return false;
    out.append(rest);
    return true;
  }
  boost::system::error_code error;
  const json::value list = json::parse(list_, error);
  if (error || !list.is_array()) return whole(list_) && (out.append(list_), true);
  std::string events;
  for (const json::value& one : list.get_array())
    append_sse(events, "", json::serialize(one));
  std::string ready;
  redactor_.feed(events, ready);
  redactor_.end(ready);
  if (!judge()) return false;
  SseParser parser;
  bool first = true;
  out += '[';
  parser.feed(ready, [&](const SseEvent& event) {
    out.append(first ? "" : ",\n").append(event.data);
    first = false;
  });
  out += ']';
  return true;
}

// An error need not be JSON; then it is a text.
bool AnswerFilter::whole(std::string& body) {
  if (parse_leniently(body))
    filter_json(filter_, body, of_whole_);
  else
    filter_.redact(body, of_whole_);
  return judge();
}

}  // namespace sluice::gateway::ai
