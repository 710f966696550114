"""gRPC through the gateway, with its own client and server: HTTP/2 on both sides."""
from concurrent import futures

import grpc
import pytest

from harness import HANG, free_port
from test_http2 import Front, RawOrigin


class Echo(grpc.GenericRpcHandler):
    """/echo.Echo/{Unary,Down,Up,Both,Fail}, with bytes for messages."""

    def service(self, call):
        method = call.method.rsplit("/", 1)[1]
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(lambda message, context: iter([message] * 100)),
            "Up": grpc.stream_unary_rpc_method_handler(lambda messages, context: b"".join(messages)),
            "Both": grpc.stream_stream_rpc_method_handler(lambda messages, context: (m.upper() for m in messages)),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
        }
        return kinds.get(method)

    def unary(self, message, context):
        context.set_trailing_metadata((("x-late", "yes"),))
        return message

    def fail(self, message, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")


@pytest.fixture
def channel(scratch):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    front = Front(scratch, port, upstream=", protocol: http2")
    made = grpc.insecure_channel(f"127.0.0.1:{front.port}", options=[("grpc.enable_http_proxy", 0)])
    yield made
    made.close()
    server.stop(None)


def test_unary_with_trailing_metadata(channel):
    answer, call = channel.unary_unary("/echo.Echo/Unary").with_call(b"hello", timeout=HANG)
    assert answer == b"hello"
    assert ("x-late", "yes") in [(k, v) for k, v in call.trailing_metadata()]


def test_large_messages(channel):
    message = bytes(range(256)) * 8000  # above every window
    assert channel.unary_unary("/echo.Echo/Unary")(message, timeout=HANG) == message


def test_streams_in_both_directions(channel):
    assert list(channel.unary_stream("/echo.Echo/Down")(b"x", timeout=HANG)) == [b"x"] * 100
    assert channel.stream_unary("/echo.Echo/Up")(iter([b"a", b"b", b"c"]), timeout=HANG) == b"abc"
    asked = []

    def ask():
        for letter in (b"a", b"b", b"c"):
            asked.append(letter)
            yield letter

    answers = []
    for answer in channel.stream_stream("/echo.Echo/Both")(ask(), timeout=HANG):
        answers.append(answer)
    assert answers == [b"A", b"B", b"C"]


def test_a_status_from_the_origin(channel):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary("/echo.Echo/Fail")(b"x", timeout=HANG)
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.value.details() == "not today"


def test_a_refusal_of_ours_is_a_status_too(scratch):
    front = Front(scratch, free_port(), upstream=", protocol: http2")  # nobody there
    with grpc.insecure_channel(f"127.0.0.1:{front.port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/echo.Echo/Unary")(b"x", timeout=HANG)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "connection refused" in error.value.details()


def test_the_callers_deadline_ends_the_call_at_the_gateway(scratch):
    with RawOrigin() as origin:
        front = Front(scratch, origin.port)
        client = front.client()
        stream = client.request("/echo.Echo/Unary", method="POST",
                                fields=[("content-type", "application/grpc"), ("grpc-timeout", "300m"), ("te", "trailers")])
        with origin.accept() as peer:
            assert b"grpc-timeout: 300m" in peer.read_head()
            assert client.answer(stream) == (200, b"")
            assert client.fields(stream)["grpc-status"] == "4"
            assert peer.socket.recv(1) == b""  # and the origin is told
