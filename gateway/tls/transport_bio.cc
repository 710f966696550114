#include "gateway/tls/transport_bio.h"

#include "gateway/tls/stream.h"
#include "gateway/transport.h"

namespace sluice::gateway::tls {
namespace {

// BIO_set_flags: the end of the stream has been read, which BIO_CTRL_EOF asks for.
constexpr int kEnded = 0x1000;

Transport& transport_of(BIO* bio) {
  return *static_cast<Transport*>(BIO_get_data(bio));
}

// A flight was just written, and its answer cannot be there: an event will tell of it. Of what is
// established a read also has to find a reset that came with the last bytes.
bool cannot_have_come(const Transport& transport) {
  return transport.socket_drained() && SSL_in_init(transport.tls()->ssl()) == 1;
}

// Nobody waits for a ticket. It goes out with the first bytes of what the client has asked for, or
// by itself after the 200 ms of MSG_MORE.
bool is_ticket(const Transport& transport) {
  return SSL_get_state(transport.tls()->ssl()) == TLS_ST_SW_SESSION_TICKET;
}

int read_bytes(BIO* bio, char* data, std::size_t size, std::size_t* done) {
  BIO_clear_retry_flags(bio);
  *done = transport_of(bio).tls()->take_early({data, size});
  if (*done > 0) return 1;
  if (cannot_have_come(transport_of(bio))) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const Received got = transport_of(bio).receive({data, size});
  switch (got.result) {
    case ReadResult::data:
      *done = got.bytes;
      return 1;
    case ReadResult::again:
      BIO_set_retry_read(bio);
      return -1;
    case ReadResult::eof:
      BIO_set_flags(bio, kEnded);
      return 0;
    case ReadResult::full:
    case ReadResult::failed:
      break;
  }
  return 0;
}

int write_bytes(BIO* bio, const char* data, std::size_t size, std::size_t* done) {
  BIO_clear_retry_flags(bio);
  *done = 0;
  Transport& transport = transport_of(bio);
  switch (transport.send({data, size}, *done, is_ticket(transport))) {
    case Flush::done:
      return 1;
    case Flush::blocked:
      if (*done > 0) return 1;
      BIO_set_retry_write(bio);
      return -1;
    case Flush::failed:
      break;
  }
  return 0;
}

long control(BIO* bio, int command, long /*number*/, void* /*pointer*/) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, kEnded) != 0 ? 1 : 0;
    default:
      return 0;
  }
}

BIO_METHOD* make_method() {
  BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "transport");
  BIO_meth_set_read_ex(method, read_bytes);
  BIO_meth_set_write_ex(method, write_bytes);
  BIO_meth_set_ctrl(method, control);
  return method;
}

}  // namespace

BioPtr make_transport_bio(Transport& transport) {
  static BIO_METHOD* const method = make_method();
  BioPtr bio(BIO_new(method));
  if (!bio) return bio;
  BIO_set_data(bio.get(), &transport);
  BIO_set_init(bio.get(), 1);
  return bio;
}

}  // namespace sluice::gateway::tls
