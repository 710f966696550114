"""gRPC through the gateway, with its own client and server: HTTP/2 on both sides."""
import contextlib
import json
import os
from concurrent import futures

import grpc
import pytest

from harness import HANG, eventually, free_port
from scripted import Origin
from test_http2 import Front, RawOrigin


class Echo(grpc.GenericRpcHandler):
    """/echo.Echo/{Unary,Down,Up,Both,Fail,Flaky,Late}, with bytes for messages."""

    def __init__(self):
        self.calls = []

    def service(self, call):
        method = call.method.rsplit("/", 1)[1]
        self.calls.append(method)
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(lambda message, context: iter([message] * 100)),
            "Up": grpc.stream_unary_rpc_method_handler(lambda messages, context: b"".join(messages)),
            "Both": grpc.stream_stream_rpc_method_handler(lambda messages, context: (m.upper() for m in messages)),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Flaky": grpc.unary_unary_rpc_method_handler(self.flaky),
            "Late": grpc.unary_stream_rpc_method_handler(self.late),
        }
        return kinds.get(method)

    def unary(self, message, context):
        context.set_trailing_metadata((("x-late", "yes"),))
        return message

    def fail(self, message, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")

    def flaky(self, message, context):
        """UNAVAILABLE each first time."""
        if self.calls.count("Flaky") % 2 == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "again")
        return message

    def late(self, message, context):
        yield message
        context.abort(grpc.StatusCode.UNAVAILABLE, "in the middle")


def server_of(echo):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@contextlib.contextmanager
def served(scratch, upstream=""):
    """What the server saw, the gateway, and a channel through it."""
    echo = Echo()
    server, port = server_of(echo)
    front = Front(scratch, port, upstream=", protocol: http2" + upstream.replace("{", "{{").replace("}", "}}"))
    made = grpc.insecure_channel(f"127.0.0.1:{front.port}", options=[("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)])
    try:
        yield echo, front, made
    finally:
        made.close()
        server.stop(None)


@pytest.fixture
def channel(scratch):
    with served(scratch) as (_, _, made):
        yield made


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
    assert "content-length" not in dict(error.value.trailing_metadata())


def test_statuses_are_counted_and_logged(scratch):
    with served(scratch) as (_, front, channel):
        log = os.path.join(scratch.path, "access.log")
        with open(front.sluice.policy) as file:
            text = file.read()
        front.sluice.write_policy(text.replace("access: { format: none }", f"access: {{ format: json, path: {log} }}"))
        front.sluice.ctl("reload")
        channel.unary_unary("/echo.Echo/Unary")(b"x", timeout=HANG)
        for method in ("Fail", "Flaky", "Nothing"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary("/echo.Echo/" + method)(b"x", timeout=HANG)
        with pytest.raises(grpc.RpcError):  # its status is in trailers behind an answer
            list(channel.unary_stream("/echo.Echo/Late")(b"x", timeout=HANG))

        def lines():
            with open(log) as file:
                return {line["path"]: line for line in map(json.loads, file)}

        eventually(lambda: os.path.exists(log) and len(lines()) == 5, "logged")
        assert {path.rsplit("/", 1)[1]: line["grpc_status"] for path, line in lines().items()} == {
            "Unary": 0, "Fail": 9, "Flaky": 14, "Nothing": 12, "Late": 14}
        assert {line["status"] for line in lines().values()} == {200}
        for status, count in ((0, 1), (9, 1), (12, 1), (14, 2)):
            assert front.metric("sluice_grpc_requests_total", f'grpc_status="{status}"') == count


def test_a_call_is_repeated_where_the_policy_names_its_status(scratch):
    with served(scratch, ", retry: { retry_on: [unavailable], back_off: 1ms }") as (echo, front, channel):
        assert channel.unary_unary("/echo.Echo/Flaky")(b"x", timeout=HANG) == b"x"
        assert echo.calls == ["Flaky", "Flaky"]
        assert front.metric("sluice_upstream_retries_total") == 1
        assert front.metric("sluice_grpc_requests_total", 'grpc_status="0"') == 1
        assert front.metric("sluice_grpc_requests_total", 'grpc_status="14"') == 0
        # Another status is not named, and behind a message there is no second try.
        for method in ("Fail", "Late"):
            with pytest.raises(grpc.RpcError):
                list(channel.unary_stream("/echo.Echo/" + method)(b"x", timeout=HANG))
        assert echo.calls == ["Flaky", "Flaky", "Fail", "Late"]


def test_a_call_is_a_post_where_the_policy_names_none(scratch):
    with served(scratch, ", retry: { retry_on: [connect_failure, reset, 503], back_off: 1ms }") as (echo, _, channel):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/echo.Echo/Flaky")(b"x", timeout=HANG)
        assert echo.calls == ["Flaky"]


def test_an_endpoint_whose_calls_are_unavailable_is_ejected(scratch):
    outliers = "outlier_detection: { consecutive_5xx: 0, consecutive_gateway_errors: 3, max_ejection_percent: 50 }"
    second, port = server_of(Echo())
    with served(scratch, f", {outliers}") as (_, front, channel):
        with open(front.sluice.policy) as file:
            text = file.read()
        front.sluice.write_policy(text.replace('endpoints: ["', f'endpoints: ["127.0.0.1:{port}", "'))
        front.sluice.ctl("reload")
        for method, ejected in (("Fail", 0), ("Late", 1)):  # FAILED_PRECONDITION is the caller's doing
            for _ in range(10):
                with pytest.raises(grpc.RpcError):
                    list(channel.unary_stream("/echo.Echo/" + method)(b"x", timeout=HANG))
            assert front.metric("sluice_upstream_ejections_total") == ejected, method
    second.stop(None)


def test_a_refusal_of_ours_is_a_status_too(scratch):
    front = Front(scratch, free_port(), upstream=", protocol: http2")  # nobody there
    with grpc.insecure_channel(f"127.0.0.1:{front.port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/echo.Echo/Unary")(b"x", timeout=HANG)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "connection refused" in error.value.details()
    assert "content-length" not in dict(error.value.trailing_metadata())
    assert front.metric("sluice_grpc_requests_total", 'grpc_status="14"') == 1


@pytest.mark.parametrize("status, code", [(401, grpc.StatusCode.UNAUTHENTICATED), (403, grpc.StatusCode.PERMISSION_DENIED)])
def test_a_refusal_of_an_authorization_service_is_a_status_too(scratch, status, code):
    def refusing(connection, _):
        while connection.head():
            connection.answer(b"no", b"%d No" % status, b"Content-Type: text/plain\r\n")

    service = Origin(scratch, refusing)
    with served(scratch) as (echo, front, channel):
        with open(front.sluice.policy) as file:
            text = file.read()
        front.sluice.write_policy(text.replace("upstream: origins }]", "upstream: origins, auth: [asked] }]")
                                  + f'auth: {{ asked: {{ external: {{ url: "http://127.0.0.1:{service.port}/" }} }} }}\n')
        front.sluice.ctl("reload")
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/echo.Echo/Unary")(b"x", timeout=HANG)
        assert error.value.code() == code
        assert error.value.details() == "refused by the authorization service"
        assert echo.calls == []
        eventually(lambda: front.metric("sluice_grpc_requests_total", f'grpc_status="{code.value[0]}"') == 1, "counted")


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
