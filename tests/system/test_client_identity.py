"""Who the client is behind proxies: PROXY protocol in and out, X-Forwarded-For by trusted hops."""
import socket
import subprocess
import threading
import time

import pytest

from certificates import Authority
from harness import HANG, Nginx, Scratch, connect, eventually, free_port, read_all
from scripted import Origin
from test_tls import Front, certificates, https_origin, run


REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
RARER = b"X-Forwarded-Prefix: /p\r\nX-Forwarded-Scheme: https\r\nX-Forwarded-Server: s\r\nX-Forwarded-Ssl: on\r\n\r\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1, 4, 210, 1, 187])


def front(scratch, listener, trusted="[127.0.0.1]", upstream="", extra=""):
    origin = Nginx(scratch, extra="location /hops { default_type text/plain; return 200 "
                   '"[$http_x_forwarded_for] [$http_x_forwarded_proto] [$http_x_forwarded_host] [$http_forwarded] '
                   '[$http_x_forwarded_prefix$http_x_forwarded_scheme$http_x_forwarded_server$http_x_forwarded_ssl]\\n"; }')
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
    eventually(lambda: " refused web/" in at.access_log() and "PROXY" in at.access_log(), "it has a line")


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


@pytest.mark.parametrize("protocol", ["http", "tcp"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_proxy_behind_learns_where_the_client_wanted_to_go(scratch, version, protocol):
    """As the proxy in front says, and not where that one has sent its own connection."""
    heads = []

    def script(connection, _):
        data = connection.raw.recv(65536)
        while data and not data.endswith(b"\r\n\r\n"):
            data += connection.raw.recv(65536)
        heads.append(data)
        connection.answer()

    origin = Origin(scratch, script)
    at = Front(scratch, f"accept_proxy_protocol: any, protocol: {protocol}",
               f'endpoints: ["127.0.0.1:{origin.port}"], send_proxy_protocol: {version}', extra="trusted_proxies: [127.0.0.1]")
    sent = {"v1": V1, "v2": V2}[version]
    for header in (V1, V2):
        assert b"200 OK" in ask(at.port, header + REQUEST + b"\r\n")
        assert heads.pop().startswith(sent)


def test_forwarded_fields_of_strangers_are_not_passed_on(scratch):
    at = front(scratch, "protocol: http", trusted=None)
    spoofed = b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\n" + RARER
    assert b"[127.0.0.1] [http] [] [] []" in ask(at.port, REQUEST.replace(b"/ ", b"/hops ") + spoofed)


def test_trusted_hops_are_believed_from_the_right(scratch):
    at = front(scratch, "protocol: http", trusted="[127.0.0.1, 10.0.0.0/8]")
    hops = b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n" + RARER
    answer = ask(at.port, REQUEST.replace(b"/ ", b"/hops ") + hops)
    assert b"[6.6.6.6, 192.0.2.7, 10.1.1.1, 127.0.0.1] [https] [shop] [] [/phttpsson]" in answer, answer
    eventually(lambda: "192.0.2.7" in at.access_log() and "6.6.6.6" not in at.access_log(), "the client is logged")


def forwarded_front(scratch, listener, trusted="[127.0.0.1, 10.0.0.0/8]", routes=None):
    origin = Nginx(scratch, extra="location /hops { default_type text/plain; return 200 "
                   '"xff=[$http_x_forwarded_for] xfp=[$http_x_forwarded_proto] f=[$http_forwarded] ip=[$http_x_client]\\n"; }')
    routes = routes or '[{ upstream: origin, request_headers: { set: { x-client: "%client_ip%" } } }]'
    return Front(scratch, listener, f'endpoints: ["127.0.0.1:{origin.port}"]', extra=f"trusted_proxies: {trusted}\n", routes=routes)


def hops(at, *lines):
    head = REQUEST.replace(b"/ ", b"/hops ") + b"".join(line.encode() + b"\r\n" for line in lines) + b"\r\n"
    return ask(at.port, head).rsplit(b"\r\n", 1)[1].decode().strip()


def test_forwarded_is_read_from_the_right_and_written_behind(scratch):
    at = forwarded_front(scratch, "client_from: forwarded, forwarded: forwarded")
    said = hops(at, 'Forwarded: for=6.6.6.6, for="[2001:db8::7]:99";proto=https, for=10.1.1.1;proto=http', "X-Forwarded-For: 1.2.3.4")
    assert said == ('xff=[] xfp=[] f=[for=6.6.6.6, for="[2001:db8::7]:99";proto=https, for=10.1.1.1;proto=http, '
                    'for=127.0.0.1;host="a.example";proto=http] ip=[2001:db8::7]'), said
    eventually(lambda: "2001:db8::7" in at.access_log(), "the client is logged")
    # Hidden, unreadable, or absent: the hop that said it is the client.
    assert "ip=[127.0.0.1]" in hops(at, "Forwarded: for=192.0.2.7, for=unknown")
    assert "ip=[10.1.1.1]" in hops(at, "Forwarded: for=192.0.2.7, for=_hidden, for=10.1.1.1")
    assert "ip=[127.0.0.1]" in hops(at, 'Forwarded: for="192.0.2.7')
    assert "ip=[127.0.0.1]" in hops(at)


def test_the_kind_that_a_proxy_does_not_write_is_not_believed(scratch):
    at = forwarded_front(scratch, "forwarded: both")
    said = hops(at, "Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    assert said == ('xff=[192.0.2.7, 127.0.0.1] xfp=[https] f=[for=192.0.2.7;proto=https, for=127.0.0.1;host="a.example";proto=http] '
                    'ip=[192.0.2.7]'), said
    with Scratch() as second:
        other = forwarded_front(second, "client_from: forwarded, forwarded: both", trusted="[127.0.0.1]")
        said = hops(other, "Forwarded: for=192.0.2.7;proto=https", "X-Forwarded-For: 6.6.6.6")
    assert said.startswith("xff=[192.0.2.7, 127.0.0.1] xfp=[https] f=[for=192.0.2.7;proto=https, for=127.0.0.1;"), said


def test_the_scheme_of_x_forwarded_proto_is_told_in_forwarded(scratch):
    at = forwarded_front(scratch, "forwarded: forwarded")
    own = 'for=127.0.0.1;host="a.example";proto=http]'
    assert f"f=[for=192.0.2.7;proto=https, {own}" in hops(at, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    assert f"f=[proto=https, {own}" in hops(at, "X-Forwarded-Proto: https")
    assert f"f=[for=192.0.2.7, {own}" in hops(at, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: gopher")


def test_strangers_are_not_believed_in_either_form(scratch):
    at = forwarded_front(scratch, "client_from: forwarded, forwarded: both", trusted="[10.0.0.0/8]")
    assert hops(at, "Forwarded: for=6.6.6.6", "X-Forwarded-For: 6.6.6.6") == (
        'xff=[127.0.0.1] xfp=[http] f=[for=127.0.0.1;host="a.example";proto=http] ip=[127.0.0.1]')


def test_a_route_may_hide_the_client(scratch):
    at = forwarded_front(scratch, "protocol: http", routes='[{ upstream: origin, request_headers: { remove: [x-forwarded-for] } }]')
    assert hops(at).startswith("xff=[] xfp=[http]")


def test_limits_and_access_rules_are_about_the_client_and_not_its_proxy(scratch):
    routes = '[{ upstream: origin, access: { deny: [192.0.2.66] }, limits: [few] }]'
    at = front(scratch, "protocol: http", extra="limits: { few: { rate: 1/h, burst: 1 } }\n")
    at.sluice.write_policy(at.text.replace("[{ listener: web, upstream: origin }]", routes))
    via = lambda address: ask(at.port, REQUEST + f"X-Forwarded-For: {address}\r\n\r\n".encode())[:12]
    eventually(lambda: via("192.0.2.66") == b"HTTP/1.1 403", "denied")
    assert [via("192.0.2.1"), via("192.0.2.1"), via("192.0.2.2")] == [b"HTTP/1.1 200", b"HTTP/1.1 429", b"HTTP/1.1 200"]


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_a_listeners_rules_wait_for_the_proxys_header(scratch, protocol):
    at = front(scratch, f"accept_proxy_protocol: v1, protocol: {protocol}, access: {{ allow: [192.0.2.7] }}, limits: [new]",
               extra="limits: { new: { unit: connections, rate: 1/h, burst: 2 } }\n")
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    assert b"200 OK" in ask(at.port, V1 + REQUEST + b"\r\n")
    assert ask(at.port, other + REQUEST + b"\r\n") == b""
    assert at.metric("sluice_access_denied_total") == 1
    assert b"200 OK" in ask(at.port, V1 + REQUEST + b"\r\n")
    assert ask(at.port, V1 + REQUEST + b"\r\n") == b""
    assert at.metric("sluice_limit_verdicts_total", 'verdict="rejected"') == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_health_checks_introduce_themselves(scratch, version):
    """An origin that wants a PROXY header gets one from checks too."""
    port = free_port()
    Nginx(scratch, extra=f"""}} server {{ listen 127.0.0.1:{port} proxy_protocol;
      location / {{ default_type text/plain; return 200 "is [$proxy_protocol_addr]\\n"; }}""")
    at = Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{port}"], send_proxy_protocol: {version}, '
               "health_check: { http: /, interval: 100ms, timeout: 100ms, unhealthy_threshold: 1, healthy_threshold: 1 }")
    assert b"is [127.0.0.1]" in ask(at.port, REQUEST + b"\r\n")
    eventually(lambda: at.metric("sluice_upstream_endpoint_state", 'state="healthy"') == 1, "healthy")
    time.sleep(0.5)  # several checks later
    assert at.metric("sluice_upstream_endpoint_state", 'state="healthy"') == 1
