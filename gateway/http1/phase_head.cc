// Phases head and access: a whole, well-formed head, and a client that may ask.
#include "gateway/http1/exchange.h"
#include "gateway/worker.h"

namespace sluice::gateway::http1 {

void Exchange::head() {
  while (true) {
    switch (request_parser_.parse(connection_->input(), request_)) {
      case Progress::complete:
        timer_.cancel();
        return access();
      case Progress::failed: {
        const ParseError error = request_parser_.error();
        worker_.metrics().parse_error(connection_->listener().slot(),
                                      static_cast<std::size_t>(error));
        close_after_ = linger_after_ = true;
        return refuse(status(error), http1::reason(error));
      }
      case Progress::need_more:
        break;
    }
    switch (connection_->read()) {
      case ReadResult::data:
        continue;
      case ReadResult::again:
        if (!timer_.armed()) worker_.wheel().arm(timer_, timeouts().head);
        return connection_->want_read();
      case ReadResult::full:  // cannot be: the parser's limit is below the buffer's size
      case ReadResult::eof:
      case ReadResult::failed:
        return client_gone("client closed within the head");
    }
  }
}

void Exchange::head_timeout() {
  close_after_ = linger_after_ = true;
  refuse(408, "request head timeout");
}

void Exchange::access() {
  body_at_ = request_.size();
  request_body_.begin(request_.body(), request_.content_length(), BodyRelay::verbatim);
  if (!request_.keep_alive()) close_after_ = true;
  if (request_.method() == Method::connect) return refuse(405, "CONNECT is not offered");
  if (!normalise_target()) return;
  route();
}

// What is matched is what the upstream gets: two views of one path would be a bypass.
bool Exchange::normalise_target() {
  if (request_.path_is_normal()) {
    normal_path_ = request_.path();
  } else {
    path_.resize(request_.path().size());
    const auto path = normalise_path(request_.path(), path_);
    if (!path) {
      worker_.metrics().parse_error(connection_->listener().slot(),
                                    static_cast<std::size_t>(path.error()));
      close_after_ = linger_after_ = true;
      refuse(status(path.error()), http1::reason(path.error()));
      return false;
    }
    normal_path_ = *path;
  }
  if (request_.host_kind() == HostKind::ipv6) {
    host_ = policy::normalise_host(request_.authority(), host_memory_).value_or("");
  } else {
    host_ = normalise_host(request_.host(), host_memory_);
  }
  return true;
}

}  // namespace sluice::gateway::http1
