// nghttp2's callbacks for a connection to an upstream.
#include "gateway/http2/callbacks.h"
#include "gateway/http2/upstream_session.h"
#include "gateway/worker.h"

namespace sluice::gateway::http2 {

struct UpstreamSession::Callbacks {
  static UpstreamSession& self(void* user) { return *static_cast<UpstreamSession*>(user); }
  static UpstreamStream* stream(nghttp2_session* session, std::int32_t id) {
    return static_cast<UpstreamStream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void*) {
    if (UpstreamStream* known = stream(session, frame->hd.stream_id)) known->head_begins();
    return 0;
  }

  static int header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                    std::uint8_t, void*) {
    UpstreamStream* known = stream(session, frame->hd.stream_id);
    if (known != nullptr) known->field(text(name, name_size), text(value, value_size));
    return 0;
  }

  static int invalid_header(nghttp2_session* session, const nghttp2_frame* frame,
                            const std::uint8_t*, std::size_t, const std::uint8_t*, std::size_t,
                            std::uint8_t, void*) {
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_PROTOCOL_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) self(user).asked_ = 0;
    if (frame->hd.type == NGHTTP2_GOAWAY) self(user).draining_ = true;
    if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0)
      self(user).settings_came();
    if (frame->hd.type > NGHTTP2_RST_STREAM || frame->hd.type == NGHTTP2_PRIORITY) return 0;
    UpstreamStream* known = stream(session, frame->hd.stream_id);
    if (known == nullptr) return 0;
    if (frame->hd.type == NGHTTP2_RST_STREAM) {
      known->reset_by_peer(frame->rst_stream.error_code);
    } else if (frame->hd.type == NGHTTP2_HEADERS) {
      known->head_ended(end);
    } else if (end) {
      known->input_ended();
    }
    return 0;
  }

  static int data(nghttp2_session* session, std::uint8_t, std::int32_t id,
                  const std::uint8_t* bytes, std::size_t size, void*) {
    nghttp2_session_consume_connection(session, size);
    if (UpstreamStream* known = stream(session, id)) known->received(text(bytes, size));
    return 0;
  }

  // Of a request: a GOAWAY came before it went. nghttp2 closes its stream right after.
  static int not_sent(nghttp2_session* session, const nghttp2_frame* frame, int, void*) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    if (UpstreamStream* known = stream(session, frame->hd.stream_id)) known->not_sent();
    return 0;
  }

  static int stream_closed(nghttp2_session* session, std::int32_t id, std::uint32_t error, void*) {
    UpstreamStream* known = stream(session, id);
    if (known == nullptr) return 0;
    nghttp2_session_set_stream_user_data(session, id, nullptr);
    known->closed(error);
    return 0;
  }

  static int send_data(nghttp2_session* session, nghttp2_frame* frame, const std::uint8_t* header,
                       std::size_t size, nghttp2_data_source*, void* user) {
    constexpr std::size_t kHeader = 9;
    Codec& codec = self(user).codec_;
    UpstreamStream* known = stream(session, frame->hd.stream_id);
    if (known == nullptr && size > 0) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!codec.has_room(kHeader + size)) return NGHTTP2_ERR_WOULDBLOCK;
    codec.put(text(header, kHeader));
    if (size > 0) known->take_output(size);
    return 0;
  }

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* made = nullptr;
    nghttp2_session_callbacks_new(&made);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(made, invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, data);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(made, not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, stream_closed);
    nghttp2_session_callbacks_set_send_data_callback(made, send_data);
    return made;
  }
};

namespace {

nghttp2_option* make_client_options() {
  nghttp2_option* made = nullptr;
  nghttp2_option_new(&made);
  nghttp2_option_set_no_auto_window_update(made, 1);
  return made;
}

}  // namespace

SessionPtr make_client_session(UpstreamSession& session) {
  static const nghttp2_session_callbacks* const kCallbacks = UpstreamSession::Callbacks::make();
  static const nghttp2_option* const kOptions = make_client_options();
  nghttp2_session* made = nullptr;
  nghttp2_session_client_new2(&made, kCallbacks, &session, kOptions);
  return SessionPtr(made);
}

ssize_t UpstreamSession::read_output(nghttp2_session* session, std::int32_t id,
                                     std::uint8_t* /*to*/, std::size_t most, std::uint32_t* flags,
                                     nghttp2_data_source* /*source*/, void* /*user*/) {
  UpstreamStream* known = Callbacks::stream(session, id);
  if (known == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  return known->read_output(most, flags);
}

}  // namespace sluice::gateway::http2
