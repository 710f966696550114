"""Every shape that smuggles, or is read in two ways (DESIGN: semantics that gateways get wrong): refused, and the connection closed.

One table, over raw sockets. The origin behind records what reaches it: nothing of these may.
"""
import re

import pytest

from harness import Scratch, read_all
from scripted import Origin, Proxy, serving, status_of

H = b"Host: a\r\n"


def get(*fields, target=b"/", version=b"HTTP/1.1", host=H):
    return b"GET " + target + b" " + version + b"\r\n" + host + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def post(*fields, body=b""):
    return b"POST / HTTP/1.1\r\n" + H + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"

# name: (bytes, status)
REFUSED = {
    # two framings, or one that can be read in two ways
    "cl_and_te": (post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), 400),
    "te_and_cl": (post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "two_cl": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400),
    "two_equal_cl": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    "cl_list": (post(b"Content-Length: 5, 5", body=b"hello"), 400),
    "cl_plus": (post(b"Content-Length: +5", body=b"hello"), 400),
    "cl_minus": (post(b"Content-Length: -5", body=b"hello"), 400),
    "cl_hex": (post(b"Content-Length: 0x5", body=b"hello"), 400),
    "cl_empty": (post(b"Content-Length:", body=b"hello"), 400),
    "cl_space_inside": (post(b"Content-Length: 1 0", body=b"hello"), 400),
    "cl_huge": (post(b"Content-Length: 99999999999999999999", body=b"hello"), 400),
    "cl_vertical_tab": (post(b"Content-Length:\x0b5", body=b"hello"), 400),
    "te_not_last": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400),
    "te_twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    "te_chunked_twice": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400),
    "te_quoted": (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 400),
    "te_identity": (post(b"Transfer-Encoding: identity", body=b"hello"), 400),
    "te_unknown": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "te_x": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    "te_in_http10": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "te_tab_colon": (post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"), 400),
    # line structure
    "bare_lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare_lf_field": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare_lf_end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare_cr": (get(b"X: a\rb"), 400),
    "bare_cr_line": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    "obs_fold": (get(b"X: a", b" b"), 400),
    "obs_fold_first": (b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", 400),
    "obs_fold_tab": (get(b"X: a", b"\tb"), 400),
    "nul_value": (get(b"X: a\0b"), 400),
    "nul_name": (get(b"X\0: a"), 400),
    "nul_target": (get(target=b"/\0"), 400),
    "escape": (get(b"X: \x1b[2J"), 400),
    "delete": (get(b"X: a\x7f"), 400),
    "space_before_colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "tab_before_colon": (get(b"X\t: a"), 400),
    "no_colon": (get(b"garbage"), 400),
    "empty_name": (get(b": a"), 400),
    "name_utf8": (get("Ü: a".encode()), 400),
    "name_parenthesis": (get(b"X(): a"), 400),
    "empty_lines_many": (b"\r\n" * 50 + get(), 400),
    # request line
    "no_version": (b"GET /\r\n\r\n", 400),
    "version_0_9": (get(version=b"HTTP/0.9"), 505),
    "version_1_2": (get(version=b"HTTP/1.2"), 505),
    "version_2": (get(version=b"HTTP/2.0"), 505),
    "version_lower": (get(version=b"http/1.1"), 400),
    "version_spaces": (get(version=b" HTTP/1.1"), 400),
    "version_trailing": (get(version=b"HTTP/1.1 "), 400),
    "version_1_10": (get(version=b"HTTP/1.10"), 400),
    "tab_separator": (b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "leading_space": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method_bad": (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method_empty": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "tls_on_http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    # target
    "target_relative": (get(target=b"index.html"), 400),
    "target_above_root": (get(target=b"/../etc/passwd"), 400),
    "target_above_root_encoded": (get(target=b"/%2e%2e/etc/passwd"), 400),
    "target_above_root_late": (get(target=b"/a/../../b"), 400),
    "target_nul": (get(target=b"/%00"), 400),
    "target_percent": (get(target=b"/%zz"), 400),
    "target_percent_cut": (get(target=b"/%2"), 400),
    "target_fragment": (get(target=b"/a#b"), 400),
    "target_backslash": (get(target=b"/a\\b"), 400),
    "target_high_byte": (get(target=b"/\xff"), 400),
    "target_scheme": (get(target=b"ftp://a/"), 400),
    "target_user": (get(target=b"http://u:p@a/"), 400),
    "target_star_get": (get(target=b"*"), 400),
    "target_long": (get(target=b"/" + b"a" * 70_000), 414),
    # Host
    "host_missing": (get(host=b""), 400),
    "host_twice": (get(b"Host: a"), 400),
    "host_twice_other": (get(b"Host: b"), 400),
    "host_list": (get(host=b"Host: a, b\r\n"), 400),
    "host_slash": (get(host=b"Host: a/b\r\n"), 400),
    "host_user": (get(host=b"Host: u@a\r\n"), 400),
    "host_port_word": (get(host=b"Host: a:http\r\n"), 400),
    "host_port_big": (get(host=b"Host: a:99999\r\n"), 400),
    "host_space": (get(host=b"Host: a b\r\n"), 400),
    "host_v6_broken": (get(host=b"Host: [::1\r\n"), 400),
    "host_v6_bare": (get(host=b"Host: ::1\r\n"), 400),
    # sizes
    "head_too_large": (get(b"X: " + b"a" * 100_000), 431),
    "too_many_fields": (get(*[b"X: a"] * 2000), 431),
    # chunks
    "chunk_minus": (post(CHUNKED, body=b"-1\r\n"), 400),
    "chunk_plus": (post(CHUNKED, body=b"+1\r\na\r\n0\r\n\r\n"), 400),
    "chunk_0x": (post(CHUNKED, body=b"0x1\r\na\r\n0\r\n\r\n"), 400),
    "chunk_empty": (post(CHUNKED, body=b"\r\n"), 400),
    "chunk_overflow": (post(CHUNKED, body=b"fffffffffffffffff\r\n"), 400),
    "chunk_wrap": (post(CHUNKED, body=b"10000000000000001\r\na\r\n"), 400),
    "chunk_lf": (post(CHUNKED, body=b"1\na\n0\n\n"), 400),
    "chunk_space": (post(CHUNKED, body=b" 1\r\na\r\n0\r\n\r\n"), 400),
    "chunk_trailing_space_cr": (post(CHUNKED, body=b"1\r\r\na\r\n0\r\n\r\n"), 400),
    "chunk_end_missing": (post(CHUNKED, body=b"1\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk_extension_lf": (post(CHUNKED, body=b"1;a=\nb\r\na\r\n0\r\n\r\n"), 400),
    "chunk_extension_flood": (post(CHUNKED, body=b"1;" + b"a" * 70_000 + b"\r\na\r\n0\r\n\r\n"), 400),
    "trailer_bad": (post(CHUNKED, body=b"0\r\nX : y\r\n\r\n"), 400),
    # hop by hop
    "connection_broken": (get(b"Connection: a b"), 400),
}


@pytest.fixture(scope="module")
def behind():
    with Scratch() as scratch:
        origin = Origin(scratch, serving())
        yield Proxy(scratch, [origin.port], listener="timeouts: { head: 2s, body_idle: 2s }"), origin


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_closed(behind, name):
    proxy, origin = behind
    request, status = REFUSED[name]
    before = len(origin.requests)
    with proxy.connect() as connection:
        try:
            # What stands behind it must not be taken for a request of its own.
            connection.sendall(request + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        except ConnectionError:
            pass  # refused while it was still being sent
        answer = read_all(connection)
    assert status_of(answer) == status, answer[:300]
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1, answer
    assert b"\r\nConnection: close\r\n" in answer
    # Chunks break behind a head that was fine: that may have gone on. Nothing else, and never what came after.
    reached = origin.requests[before:]
    assert not any(b"/smuggled" in head for head in reached)
    assert not reached or name.startswith(("chunk_", "trailer_"))


def test_each_reason_was_counted(behind):
    proxy, _ = behind
    reasons = {labels["reason"] for name, labels, value in proxy.metrics().samples
               if name == "sluice_parse_errors_total" and value > 0}
    assert {"bare_lf", "bare_cr", "obs_fold", "control_byte", "duplicate_content_length", "bad_transfer_encoding",
            "missing_host", "duplicate_host", "bad_chunk_size", "path_above_root"} <= reasons


ACCEPTED = {
    "absolute_form": (get(target=b"http://a/x"), b"GET /x HTTP/1.1"),
    "dot_segments": (get(target=b"/a/./b/../c"), b"GET /a/c HTTP/1.1"),
    "encoded_dots": (get(target=b"/a/%2e%2e/c"), b"GET /c HTTP/1.1"),
    "double_slash": (get(target=b"/a//b"), b"GET /a/b HTTP/1.1"),
    "encoded_crlf_kept": (get(target=b"/%0d%0aX:y"), b"GET /%0D%0AX:y HTTP/1.1"),
    "encoded_slash_kept": (get(target=b"/a%2Fb"), b"GET /a%2Fb HTTP/1.1"),
    "query_untouched": (get(target=b"/a?b=../c&d=%2e"), b"GET /a?b=../c&d=%2e HTTP/1.1"),
    "one_empty_line_before": (b"\r\n" + get(), b"GET / HTTP/1.1"),
    "options_star": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1"),
    "host_v6": (get(host=b"Host: [::1]:80\r\n"), b"GET / HTTP/1.1"),
    "unknown_method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"BREW / HTTP/1.1"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_odd_but_clear_arrives_in_its_normal_form(behind, name):
    proxy, origin = behind
    request, line = ACCEPTED[name]
    with proxy.connect() as connection:
        connection.sendall(request[:-2] + b"Connection: close\r\n\r\n")
        assert status_of(read_all(connection)) == 200
    assert origin.requests[-1].split(b"\r\n")[0] == line


def test_hop_by_hop_fields_stay_here(behind):
    proxy, origin = behind
    with proxy.connect() as connection:
        connection.sendall(get(b"Connection: close, X-Secret, Authorization", b"X-Secret: 1", b"Authorization: Basic eA==", b"Keep-Alive: 5",
                               b"Proxy-Authorization: x", b"TE: gzip", b"Proxy-Connection: keep-alive", b"X-Kept: 1",
                               b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQ"))
        assert status_of(read_all(connection)) == 200
    head = origin.requests[-1].lower()
    for gone in (b"x-secret", b"keep-alive:", b"proxy-connection", b"\r\nte:", b"h2c", b"http2-settings"):
        assert gone not in head, head
    assert b"x-kept: 1" in head
    assert b"authorization: basic" in head, "naming it in Connection must not take credentials away"


def test_trailers_that_frame_or_route_are_removed(scratch_origin):
    proxy, seen = scratch_origin
    with proxy.connect() as connection:
        connection.sendall(post(CHUNKED, b"Connection: close", b"Trailer: X-Sum",
                                body=b"2\r\nab\r\n0\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: chunked\r\nX-Sum: 1\r\n\r\n"))
        assert status_of(read_all(connection)) == 200
    body = seen[0].lower()
    assert body.endswith(b"\r\n\r\n") and b"x-sum: 1" in body
    assert b"content-length" not in body and b"host" not in body and b"transfer-encoding" not in body


@pytest.fixture
def scratch_origin():
    """What stands behind the head, as it came."""
    seen = []

    def script(connection, _):
        connection.head()
        while not connection.received.endswith(b"\r\n\r\n"):
            connection.received += connection.raw.recv(65536)
        seen.append(connection.received)
        connection.answer()
    with Scratch() as scratch:
        yield Proxy(scratch, [Origin(scratch, script).port]), seen
