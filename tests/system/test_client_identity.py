"""Who the client is behind proxies: PROXY protocol in and out, X-Forwarded-For by trusted hops."""
import socket
import subprocess
import threading

import pytest

from certificates import Authority
from harness import HANG, Nginx, Scratch, connect, eventually, free_port, read_all
from test_tls import Front, certificates, https_origin, run


@pytest.fixture
def scratch():
    with Scratch() as made:
        yield made


REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1, 4, 210, 1, 187])


def front(scratch, listener, trusted="[127.0.0.1]", upstream="", extra=""):
    origin = Nginx(scratch, extra="location /hops { default_type text/plain; return 200 "
                   '"[$http_x_forwarded_for] [$http_x_forwarded_proto] [$http_x_forwarded_host] [$http_forwarded]\\n"; }')
    trust = f"trusted_proxies: {trusted}\n" if trusted else ""
    return Front(scratch, listener, f'endpoints: ["127.0.0.1:{origin.port}"] {upstream}', extra=trust + extra)


def ask(port, *pieces):
    with connect(port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        return read_all(client)


@pytest.mark.parametrize("version, header", [("v1", V1), ("v2", V2), ("any", V1), ("any", V2)])
def test_the_client_is_who_the_proxy_says(scratch, version, header):
    at = front(scratch, f"accept_proxy_protocol: {version}")
    assert b" 192.0.2.7\n" in ask(at.port, header + REQUEST + b"\r\n")
    assert b" 192.0.2.7\n" in ask(at.port, header[:9], header[9:], REQUEST, b"\r\n")
    eventually(lambda: "192.0.2.7" in at.access_log(), "logged")


@pytest.mark.parametrize("version, sent", [("v1", V2), ("v2", V1), ("any", b""), ("v1", b"PROXY TCP4 1.2.3.4\r\n")])
def test_without_its_header_a_trusted_proxy_gets_nothing(scratch, version, sent):
    at = front(scratch, f"accept_proxy_protocol: {version}")
    assert ask(at.port, sent + REQUEST + b"\r\n") == b""
    assert at.metric("sluice_proxy_protocol_refused_total") == 1


def test_anybody_else_cannot_claim_to_be_another(scratch):
    at = front(scratch, "accept_proxy_protocol: any", trusted="[192.0.2.0/24]")
    assert b" 127.0.0.1\n" in ask(at.port, REQUEST + b"\r\n")
    assert b"400 Bad Request" in ask(at.port, V1 + REQUEST + b"\r\n")


def test_a_header_before_tls(scratch):
    ca = Authority(scratch.path)
    at = front(scratch, f"accept_proxy_protocol: v2, tls: {{ {certificates(ca.issue('a.example'))} }}")
    done = run("curl", "-sS", "--haproxy-protocol", "--cacert", ca.cert, "--connect-to", f"a.example:443:127.0.0.1:{at.port}",
               "https://a.example/")
    assert done.returncode != 0  # curl speaks version 1
    at.sluice.write_policy(at.text.replace("accept_proxy_protocol: v2", "accept_proxy_protocol: v1"))
    eventually(lambda: run("curl", "-sS", "--haproxy-protocol", "--cacert", ca.cert, "--connect-to",
                           f"a.example:443:127.0.0.1:{at.port}", "https://a.example/").returncode == 0, "version 1")


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_an_nginx_behind_learns_who_the_client_is(scratch, protocol):
    port = free_port()
    Nginx(scratch, extra=f"""}} server {{ listen 127.0.0.1:{port} proxy_protocol;
      location / {{ default_type text/plain; return 200 "is $proxy_protocol_addr\\n"; }}""")
    at = Front(scratch, f"accept_proxy_protocol: v1, protocol: {protocol}",
               f'endpoints: ["127.0.0.1:{port}"], send_proxy_protocol: v2', extra="trusted_proxies: [127.0.0.1]")
    for client in (b"192.0.2.7", b"192.0.2.8", b"192.0.2.7"):
        header = V1.replace(b"192.0.2.7", client)
        assert b"is " + client + b"\n" in ask(at.port, header + REQUEST + b"\r\n")


def test_forwarded_fields_of_strangers_are_not_passed_on(scratch):
    at = front(scratch, "protocol: http", trusted=None)
    spoofed = b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\n\r\n"
    assert b"[127.0.0.1] [http] [] []" in ask(at.port, REQUEST.replace(b"/ ", b"/hops ") + spoofed)


def test_trusted_hops_are_believed_from_the_right(scratch):
    at = front(scratch, "protocol: http", trusted="[127.0.0.1, 10.0.0.0/8]")
    hops = b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n\r\n"
    answer = ask(at.port, REQUEST.replace(b"/ ", b"/hops ") + hops)
    assert b"[6.6.6.6, 192.0.2.7, 10.1.1.1, 127.0.0.1] [https] [shop] []" in answer, answer
    eventually(lambda: "192.0.2.7" in at.access_log() and "6.6.6.6" not in at.access_log(), "the client is logged")
