// nghttp2's callbacks for a client's connection.
#include "gateway/http2/callbacks.h"
#include "gateway/http2/connection.h"
#include "gateway/worker.h"

namespace sluice::gateway::http2 {

struct Connection::Callbacks {
  static Connection& self(void* user) { return *static_cast<Connection*>(user); }
  static ClientStream* stream(nghttp2_session* session, std::int32_t id) {
    return static_cast<ClientStream*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int begin_frame(nghttp2_session*, const nghttp2_frame_hd* header, void* user) {
    Connection& connection = self(user);
    if (header->type == NGHTTP2_HEADERS) {
      connection.continuations_ = 0;
      connection.in_head_ = true;
    } else if (header->type != NGHTTP2_CONTINUATION) {
      connection.in_head_ = false;
    } else if (++connection.continuations_ > FloodGuard::kMaxContinuations) {
      connection.end_for_abuse(Abuse::continuation);
    }
    return 0;
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Connection& connection = self(user);
    const std::int32_t id = frame->hd.stream_id;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
      if (ClientStream* known = stream(session, id)) known->trailers_begin();
      return 0;
    }
    ClientStream& opened = *connection.worker_.http2_clients().take(connection.worker_).release();
    opened.open(connection, id, ++connection.requests_);
    connection.open_.push_back(opened);
    ++connection.open_streams_;
    nghttp2_session_set_stream_user_data(session, id, &opened);
    return 0;
  }

  static int header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                    std::uint8_t, void* user) {
    ClientStream* known = stream(session, frame->hd.stream_id);
    if (known == nullptr) return 0;
    known->field(text(name, name_size), text(value, value_size));
    // Far over what was announced: nobody does that by mistake.
    if (known->field_bytes() > 4 * HeadText::kMaxSize) self(user).end_for_abuse(Abuse::header_list);
    return 0;
  }

  // A stream that is known is counted as it ends: some are reset without another callback.
  static void refused(nghttp2_session* session, std::int32_t id, Connection& connection) {
    if (id == 0 || stream(session, id) == nullptr) connection.admit(Abuse::malformed);
  }

  static int invalid_header(nghttp2_session* session, const nghttp2_frame* frame,
                            const std::uint8_t*, std::size_t, const std::uint8_t*, std::size_t,
                            std::uint8_t, void* user) {
    self(user).in_head_ = false;
    refused(session, frame->hd.stream_id, self(user));
    nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_PROTOCOL_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int invalid_frame(nghttp2_session* session, const nghttp2_frame* frame, int error,
                           void* user) {
    Connection& connection = self(user);
    if (frame->hd.type == NGHTTP2_HEADERS) connection.in_head_ = false;
    // A client may open more streams than we allow before it has read our settings.
    if (error != NGHTTP2_ERR_REFUSED_STREAM) refused(session, frame->hd.stream_id, connection);
    return 0;
  }

  static int frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    Connection& connection = self(user);
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    ClientStream* known = frame->hd.stream_id != 0 ? stream(session, frame->hd.stream_id) : nullptr;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        connection.in_head_ = false;
        if (known != nullptr) known->head_ended(end);
        break;
      case NGHTTP2_DATA:
        if (end && known != nullptr) known->input_ended();
        // Padding is no payload; padlen counts the octet that says how much, too.
        if (!end && frame->hd.length == frame->data.padlen) connection.admit(Abuse::empty_data);
        break;
      case NGHTTP2_RST_STREAM:
        if (known != nullptr) {
          known->reset_by_client();
          connection.admit(Abuse::rapid_reset);
        } else if (nghttp2_session_find_stream(session, frame->hd.stream_id) == nullptr) {
          connection.admit(Abuse::reset);  // else it is answered, and lingers
        }
        break;
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) connection.admit(Abuse::settings);
        break;
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
          connection.admit(Abuse::ping);
        } else if (connection.ending_) {
          connection.name_last_stream();
        }
        break;
      case NGHTTP2_PRIORITY:
        connection.admit(Abuse::priority);
        break;
      default:
        break;
    }
    return 0;
  }

  static int frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_GOAWAY) self(user).goaway_sent();
    return 0;
  }

  static int data(nghttp2_session* session, std::uint8_t, std::int32_t id,
                  const std::uint8_t* bytes, std::size_t size, void* user) {
    nghttp2_session_consume_connection(session, size);
    if (ClientStream* known = stream(session, id)) {
      known->received(text(bytes, size));
    } else {
      // The answer is out and the rest of the request unwanted: a client that goes on sending gets
      // through, until the stream is reset (Connection::linger).
      nghttp2_session_consume_stream(session, id, size);
      self(user).send_later();
    }
    return 0;
  }

  static int stream_closed(nghttp2_session* session, std::int32_t id, std::uint32_t error,
                           void* user) {
    ClientStream* known = stream(session, id);
    if (known == nullptr) return 0;
    nghttp2_session_set_stream_user_data(session, id, nullptr);
    known->closed(error);
    // Who has us reset streams has work done in vain, as if by resets of its own (CVE-2025-8671).
    if (known->broken()) self(user).admit(Abuse::malformed);
    return 0;
  }

  static int send_data(nghttp2_session* session, nghttp2_frame* frame, const std::uint8_t* header,
                       std::size_t size, nghttp2_data_source*, void* user) {
    constexpr std::size_t kHeader = 9;
    Connection& connection = self(user);
    ClientStream* known = stream(session, frame->hd.stream_id);
    if (known == nullptr && size > 0) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!connection.codec_.has_room(kHeader + size)) return NGHTTP2_ERR_WOULDBLOCK;
    connection.codec_.put(text(header, kHeader));
    if (size > 0) known->take_output(size);
    return 0;
  }

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* made = nullptr;
    nghttp2_session_callbacks_new(&made);
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(made, invalid_header);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(made, invalid_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, frame_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, data);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, stream_closed);
    nghttp2_session_callbacks_set_send_data_callback(made, send_data);
    return made;
  }
};

namespace {

// Our own limits come first, so that they are counted; nghttp2's stay behind them.
nghttp2_option* make_options() {
  nghttp2_option* made = nullptr;
  nghttp2_option_new(&made);
  nghttp2_option_set_no_auto_window_update(made, 1);
  nghttp2_option_set_no_closed_streams(made, 1);
  nghttp2_option_set_stream_reset_rate_limit(made, 10'000, 10'000);
  nghttp2_option_set_max_continuations(made, FloodGuard::kMaxContinuations + 2);
  return made;
}

}  // namespace

SessionPtr make_server_session(Connection& connection) {
  static const nghttp2_session_callbacks* const kCallbacks = Connection::Callbacks::make();
  static const nghttp2_option* const kOptions = make_options();
  nghttp2_session* session = nullptr;
  nghttp2_session_server_new2(&session, kCallbacks, &connection, kOptions);
  return SessionPtr(session);
}

ssize_t Connection::read_output(nghttp2_session* session, std::int32_t id, std::uint8_t* /*to*/,
                                std::size_t most, std::uint32_t* flags,
                                nghttp2_data_source* /*source*/, void* /*user*/) {
  ClientStream* known = Callbacks::stream(session, id);
  if (known == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  return known->read_output(most, flags);
}

}  // namespace sluice::gateway::http2
