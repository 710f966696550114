// The exchange's part in mirroring: it writes the copy while the request goes by.
#include <charconv>
#include <utility>

#include "gateway/http/exchange.h"
#include "gateway/http/mirrors.h"
#include "gateway/http1/field_reader.h"
#include "gateway/worker.h"

namespace sluice::gateway::http {

namespace {

using http1::KnownField;
using http1::KnownFieldSet;

constexpr KnownFieldSet kMadeAnew{KnownField::host,    KnownField::content_length,
                                  KnownField::expect,  KnownField::transfer_encoding,
                                  KnownField::trailer, KnownField::x_forwarded_proto};

}  // namespace

// With the first try that is sent; a later one begins the body again, if it did not go out.
void Exchange::begin_mirror(const http1::RequestForwarding& options) {
  if (mirror_) {
    mirror_->body().clear();
    return;
  }
  const policy::Mirror& mirror = *config_->policy().routes[*route_].actions.mirror;
  if (std::exchange(mirror_decided_, true) || !request_.upgrade().empty()) return;
  if (worker_.random() % 100 >= mirror.percent) return;
  if (request_.content_length() > Mirrors::kMaxBody) return drop_mirror(MirrorResult::too_large);
  mirror_ = worker_.mirrors().take();
  if (!mirror_) return drop_mirror(MirrorResult::too_many);
  std::string& head = mirror_->head();
  head.assign(request_.method_name()).append(" ");
  head.append(options.path.empty() ? request_.path() : options.path);
  if (request_.has_query()) head.append("?").append(request_.query());
  head.append(" HTTP/1.1\r\nhost: ");
  head.append(options.host.empty() ? request_.authority() : options.host).append("\r\n");
  const http1::FieldTable& fields = request_.fields();
  const KnownFieldSet left_out = http1::kHopByHop | kMadeAnew | options.remove;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (left_out.contains(fields.entry(i).id) || fields.entry(i).nominated) continue;
    head.append(fields[i].name).append(": ").append(fields[i].value).append("\r\n");
  }
  for (const ExtraField& field : options.add)
    head.append(field.name).append(": ").append(field.value).append("\r\n");
  head.append(options.lines);
  mirror_->body().clear();
}

void Exchange::mirror_body(std::string_view data) {
  if (mirror_->body().size() + data.size() > Mirrors::kMaxBody)
    return drop_mirror(MirrorResult::too_large);
  mirror_->body().append(data);
}

void Exchange::send_mirror() {
  std::string& head = mirror_->head();
  if (request_.body() != BodyKind::none) {
    std::array<char, 20> digits;
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), mirror_->body().size());
    head.append("content-length: ").append(digits.data(), end.ptr).append("\r\n");
  }
  head.append("\r\n");
  const bool sent =
      worker_.mirrors().send(std::move(mirror_), config_, config_->snapshot().route(*route_).mirror,
                             client_->client().peer.address);
  worker_.metrics().mirrored(config_->slots().routes[*route_],
                             sent ? MirrorResult::sent : MirrorResult::unavailable);
}

void Exchange::drop_mirror(MirrorResult why) {
  worker_.metrics().mirrored(config_->slots().routes[*route_], why);
  if (mirror_) worker_.mirrors().give_back(std::move(mirror_));
}

}  // namespace sluice::gateway::http
