"""TLS as real clients and origins speak it: curl, openssl s_client, h2load; nginx behind."""
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request

import h2.config
import h2.connection
import h2.events
import pytest

from certificates import Authority, openssl
from harness import HANG, Nginx, Process, Sluice, connect, eventually, free_port, read_all
from scripted import Origin, Proxy


def run(*command, stdin=b""):
    return subprocess.run(command, capture_output=True, timeout=HANG * 2, input=stdin)


class Front:
    """A sluice with one listener `web` and one upstream `origin`."""

    def __init__(self, scratch, listener, upstream, extra="", workers=1, routes=None):
        self.port, self.metrics_port = free_port(), free_port()
        self.scratch = scratch
        self.text = f"""version: 1
state_dir: {scratch.path}/state
workers: {workers}
logs: {{ access: {{ format: text, path: {scratch.path}/access.log }} }}
metrics: {{ bind: "127.0.0.1:{self.metrics_port}" }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}", {listener} }} }}
upstreams:
  origin: {{ {upstream} }}
{extra}
routes: {routes or '[{ listener: web, upstream: origin }]'}
"""
        self.sluice = Sluice(scratch, self.text)

    def page(self):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=HANG).read().decode()

    def metric(self, name, *labels):
        found = [line for line in self.page().splitlines() if line.startswith(name + "{") and all(l in line for l in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def curl(self, name, *arguments, path="/", ca=None):
        trust = ["--cacert", ca.cert] if ca else ["-k"]
        return run("curl", "-sS", "--max-time", str(HANG), *trust, "--connect-to", f"{name}:443:127.0.0.1:{self.port}",
                   *arguments, f"https://{name}{path}")

    def s_client(self, *arguments, name="a.example"):
        return run("openssl", "s_client", "-connect", f"127.0.0.1:{self.port}", "-servername", name, *arguments)

    def access_log(self):
        with open(f"{self.scratch.path}/access.log") as log:
            return log.read().replace("\\x20", " ")


def certificates(*pairs):
    return "certificates: [" + ", ".join(f"{{ cert: {p.cert}, key: {p.key} }}" for p in pairs) + "]"


def plain_front(scratch, ca, more="", **options):
    origin = Nginx(scratch)
    return Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))}, {more} }}", f'endpoints: ["127.0.0.1:{origin.port}"]',
                 **options)


# --- towards clients

def test_http2_and_http11_by_alpn(scratch, ca):
    front = plain_front(scratch, ca)
    for arguments, version in ((["--http2"], b"2 200"), (["--http1.1"], b"1.1 200"), (["--no-alpn"], b"1.1 200")):
        done = front.curl("a.example", *arguments, "-w", "%{http_version} %{http_code}", ca=ca)
        assert done.stdout.endswith(version), (arguments, done)
        assert b"GET a.example / " in done.stdout, done
    assert front.metric("sluice_tls_handshakes_total", 'version="1.3"', 'resumed="false"') == 3


def test_only_http11_where_the_policy_says_so(scratch, ca):
    front = plain_front(scratch, ca, "alpn: [http/1.1]")
    assert front.curl("a.example", "--http2", "-w", "%{http_version}", ca=ca).stdout.endswith(b"1.1")
    only_h2 = front.s_client("-alpn", "h2")
    assert b"no application protocol" in only_h2.stderr, only_h2
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="alpn"') == 1


def test_many_streams(scratch, ca):
    front = plain_front(scratch, ca, workers=2)
    done = run("h2load", "-n", "3000", "-c", "4", "-m", "50", f"https://127.0.0.1:{front.port}/")
    assert b"3000 succeeded, 0 failed" in done.stdout, done.stdout


def test_large_bodies_both_ways(scratch, ca):
    origin = Nginx(scratch, extra="location /put/ { dav_methods PUT; create_full_put_path on; client_max_body_size 0; }")
    path = origin.file("big", 5 << 20)
    front = Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))} }}", f'endpoints: ["127.0.0.1:{origin.port}"]')
    with open(path, "rb") as file:
        content = file.read()
    for version in ("--http1.1", "--http2"):
        assert front.curl("a.example", version, path="/files/big", ca=ca).stdout == content
        done = front.curl("a.example", version, "-T", path, "-o", "/dev/null", "-w", "%{http_code}", path="/put/" + version[6:], ca=ca)
        assert done.stdout in (b"201", b"204"), done
        with open(f"{origin.directory}/put/{version[6:]}", "rb") as stored:
            assert stored.read() == content


def test_certificates_by_name(scratch, ca):
    origin = Nginx(scratch)
    pairs = [ca.issue("a.example"), ca.issue("b.example", "*.b.example"), ca.issue("a.example", file="rsa", key="rsa")]
    front = Front(scratch, f"tls: {{ {certificates(*pairs)} }}", f'endpoints: ["127.0.0.1:{origin.port}"]')

    def subject(name, *more):
        return re.search(rb"subject=CN = (\S+)", front.s_client(*more, name=name).stdout).group(1)

    assert subject("a.example") == b"a.example"
    assert subject("b.example") == b"b.example"
    assert subject("X.B.example") == b"b.example"
    assert subject("x.y.b.example") == b"a.example"  # one label, no more: the first certificate
    assert subject("unknown.example") == b"a.example"
    for signature, kind in (("rsa_pss_rsae_sha256", b"RSA"), ("ecdsa_secp256r1_sha256", b"id-ecPublicKey")):
        shown = front.s_client("-sigalgs", signature, "-showcerts").stdout
        assert b"a:PKEY: " in shown and kind in shown, shown[:2000]


def test_strict_sni(scratch, ca):
    front = plain_front(scratch, ca, "strict_sni: true")
    assert front.curl("a.example", ca=ca).returncode == 0
    assert b"unrecognized name" in front.s_client(name="other.example").stderr
    assert run("openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", "-noservername").returncode != 0
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="unknown_name"') == 2
    # Nor is a session resumed under a name that is not known.
    for index, version in enumerate(("-tls1_2", "-tls1_3")):
        session = f"{scratch.path}/session{version}"
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"

        def connecting(name, *more):
            return run("openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", "-servername", name, "-ign_eof", version, *more,
                       stdin=request)

        assert b"200 OK" in connecting("a.example", "-sess_out", session).stdout
        assert b"Reused, TLS" in connecting("a.example", "-sess_in", session).stdout
        assert b"unrecognized name" in connecting("other.example", "-sess_in", session).stderr
        assert front.metric("sluice_tls_handshake_failures_total", 'reason="unknown_name"') == 3 + index


def test_versions(scratch, ca):
    front = plain_front(scratch, ca)
    assert b"TLSv1.2" in front.s_client("-tls1_2").stdout
    assert b"Cipher is (NONE)" in front.s_client("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0").stdout
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="version"') == 1
    assert b"Cipher is (NONE)" in front.s_client("-tls1_2", "-cipher", "AES128-SHA").stdout  # no forward secrecy
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="cipher"') == 1
    front.sluice.write_policy(front.text.replace("tls: {", 'tls: { min_version: "1.3",'))
    eventually(lambda: b"Cipher is (NONE)" in front.s_client("-tls1_2").stdout, "TLS 1.2 is refused")
    assert b"TLSv1.3" in front.s_client().stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_resume_on_any_worker(scratch, ca, version):
    front = plain_front(scratch, ca, workers=4)
    session = f"{scratch.path}/session"
    # The ticket of TLS 1.3 comes with the answer.
    request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    first = run("openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", "-ign_eof", version, "-sess_out", session, stdin=request)
    assert b"New, TLS" in first.stdout, first
    for _ in range(12):
        again = run("openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", "-ign_eof", version, "-sess_in", session, stdin=request)
        assert b"Reused, TLS" in again.stdout and b"200 OK" in again.stdout, again
    assert front.metric("sluice_tls_handshakes_total", 'resumed="true"') == 12


def test_mutual_tls(scratch, ca):
    clients, strangers = Authority(scratch.path, "clients"), Authority(scratch.path, "strangers")
    known, stranger = clients.issue(cn="batch", uri="spiffe://example/batch"), strangers.issue(cn="batch")
    front = plain_front(scratch, ca, f"client_auth: required, client_ca: {clients.cert}")
    ok = front.curl("a.example", "--cert", known.cert, "--key", known.key, ca=ca)
    assert ok.returncode == 0 and b"GET" in ok.stdout, ok
    assert front.curl("a.example", ca=ca).returncode != 0
    assert front.curl("a.example", "--cert", stranger.cert, "--key", stranger.key, ca=ca).returncode != 0
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="no_certificate"') == 1
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="unknown_authority"') == 1
    late = clients.issue(cn="late", days=-1)
    assert front.curl("a.example", "--cert", late.cert, "--key", late.key, ca=ca).returncode != 0
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="expired"') == 1

    def refusals():
        return [line for line in front.access_log().splitlines() if " refused " in line]

    eventually(lambda: len(refusals()) == 3, "each has a line")
    for line, why in zip(refusals(), ("TLS no_certificate", "TLS unknown_authority:", "certificate has expired")):
        assert "127.0.0.1:" in line and "a.example" in line and why in line, line
    front.sluice.write_policy(front.text.replace("client_auth: required", "client_auth: optional"))
    eventually(lambda: front.curl("a.example", ca=ca).returncode == 0, "no certificate is needed")
    assert front.curl("a.example", "--cert", stranger.cert, "--key", stranger.key, ca=ca).returncode != 0


def test_a_refused_client_hears_why(scratch, ca):
    """By TLS 1.3 its first request is on its way by then: closing over it would reset the connection, alert and all."""
    clients = Authority(scratch.path, "clients")
    front = plain_front(scratch, ca, f"client_auth: required, client_ca: {clients.cert}")
    context = ssl.create_default_context(cafile=ca.cert)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for _ in range(20):
        with connect(front.port) as plain, context.wrap_socket(plain, server_hostname="a.example") as client:
            client.settimeout(HANG)
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                client.sendall(b"x" * 8000)
                client.recv(1)


def test_a_client_that_only_looks_leaves_no_line(scratch, ca):
    front = plain_front(scratch, ca)
    connect(front.port).close()
    eventually(lambda: front.metric("sluice_tls_handshake_failures_total", 'reason="closed"') == 1, "counted")
    assert front.curl("a.example", ca=ca).returncode == 0
    eventually(lambda: " request " in front.access_log(), "logged")
    assert " refused " not in front.access_log()


@pytest.mark.parametrize("protocol", ["http", "tls"])
def test_who_says_nothing_has_not_failed_a_handshake(scratch, ca, protocol):
    """A load balancer's check, a browser that connects in advance: neither is banned, who sends something else is."""
    origin = Nginx(scratch)
    tls = f"tls: {{ {certificates(ca.issue('a.example'))} }}, " if protocol == "http" else ""
    front = Front(scratch, f"protocol: {protocol}, {tls}accept_proxy_protocol: v1, timeouts: {{ handshake: 500ms }}",
                  f'endpoints: ["127.0.0.1:{origin.port}"]', extra="""trusted_proxies: [127.0.0.1]
bans: { rules: [{ when: { event: tls_handshake, count: 1 }, for: 60s, action: route, upstream: origin }] }""")

    def offer(source, sent):
        with connect(front.port) as client:
            client.sendall(f"PROXY TCP4 {source} 198.51.100.1 1234 443\r\n".encode() + sent)
            if source.endswith(".8"):
                read_all(client)  # until it has taken too long
            client.shutdown(socket.SHUT_WR)
            read_all(client)

    def banned():
        return {ban["address"] for ban in json.loads(front.sluice.ctl("bans", "--output", "json").stdout)["bans"]}

    for source in ("192.0.2.7", "192.0.2.8"):
        for _ in range(3):
            offer(source, b"")
    assert front.metric("sluice_tls_handshake_failures_total") == 6  # they count all the same
    offer("192.0.2.9", b"\x16\x03")
    eventually(lambda: banned() == {"192.0.2.9/32"}, "who began is banned")


def test_who_a_client_is_by_its_certificate(scratch, ca):
    """In access rules, limits and header variables, over both versions of HTTP."""
    clients = Authority(scratch.path, "clients")
    batch, other = clients.issue("batch.example", cn="batch", uri="spiffe://example/batch"), clients.issue(cn="other")
    origin = Nginx(scratch, extra='location /who { default_type text/plain; return 200 "$http_x_who\\n"; }')
    routes = """
  - { path: /who, upstream: origin, limits: [each],
      request_headers: { set: { x-who: "%client_cert_name%|%client_cert_subject%|%client_cert_fingerprint%|%client_cert_serial%" } } }
  - { path: /only, upstream: origin, access: { allow: [{ identity: "spiffe://example/*" }] } }
  - { path: /not, upstream: origin, access: { deny: [{ identity: other }] } }"""
    front = Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))}, client_auth: optional, client_ca: {clients.cert} }}",
                  f'endpoints: ["127.0.0.1:{origin.port}"]', extra="limits: { each: { key: [identity], rate: 1/h, burst: 2 } }", routes=routes)

    def ask(path, pair=None, *more):
        shown = ["--cert", pair.cert, "--key", pair.key] if pair else []
        done = front.curl("a.example", *shown, "-o", "-", "-w", "%{http_code}", *more, ca=ca, path=path)
        assert done.returncode == 0, done
        return done.stdout.decode()[-3:], done.stdout.decode()[:-3].strip()

    status, said = ask("/who", batch, "-H", "X-Who: root")
    fingerprint = openssl("x509", "-in", batch.cert, "-noout", "-fingerprint", "-sha256").strip().split("=")[1].replace(":", "").lower()
    serial = openssl("x509", "-in", batch.cert, "-noout", "-serial").strip().split("=")[1]
    assert (status, said) == ("200", f"batch.example|CN=batch|{fingerprint}|{serial}")
    assert ask("/who", batch, "--http1.1")[0] == "200" and ask("/who", batch)[0] == "429"
    assert ask("/who", other) == ("200", ask("/who", other)[1]) and ask("/who", other)[0] == "429"
    assert ask("/who")[1] == "|||"
    for version in ("--http1.1", "--http2"):
        assert [ask("/only", pair, version)[0] for pair in (batch, other, None)] == ["200", "403", "403"]
        assert [ask("/not", pair, version)[0] for pair in (batch, other, None)] == ["200", "403", "200"]


def test_the_cookie_of_a_sticky_client_is_for_tls_alone(scratch, ca):
    origin = Nginx(scratch)
    front = Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))} }}",
                  f'endpoints: ["127.0.0.1:{origin.port}"], sticky: {{ cookie: home, key: "a key of more than sixteen bytes" }}')
    head = front.curl("a.example", "-i", ca=ca).stdout.decode()
    cookie = next(line for line in head.splitlines() if line.lower().startswith("set-cookie: home="))
    assert cookie.endswith("; Secure")


def test_what_is_not_tls(scratch, ca):
    front = plain_front(scratch, ca)
    with connect(front.port) as client:
        client.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        assert read_all(client)[:1] in (b"", b"\x15")  # an alert at most
    eventually(lambda: front.metric("sluice_tls_handshake_failures_total", 'reason="not_tls"') == 1, "counted")


def test_http_to_an_https_port_is_told_so(scratch, ca):
    front = plain_front(scratch, ca)
    shown = run("curl", "-sS", "-i", "-H", "X-Filler: " + "x" * 6000, f"http://127.0.0.1:{front.port}/")
    assert shown.stdout.startswith(b"HTTP/1.1 400 Bad Request") and b"speaks HTTPS" in shown.stdout
    eventually(lambda: front.metric("sluice_tls_handshake_failures_total", 'reason="plain_http"') == 1, "counted")


def test_slow_handshakes_end_and_hold_up_nobody(scratch, ca):
    origin = Nginx(scratch)
    front = Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))} }}, timeouts: {{ handshake: 500ms }}",
                  f'endpoints: ["127.0.0.1:{origin.port}"]')
    slow = [connect(front.port) for _ in range(20)]
    for client in slow[:10]:
        client.sendall(b"\x16\x03\x01\x02\x00\x01")  # a part of a record
    assert front.curl("a.example", ca=ca).returncode == 0
    for client in slow:
        read_all(client)  # until it is closed
        client.close()
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="timeout"') == 20


# --- files

def test_a_certificate_is_replaced_while_it_serves(scratch, ca):
    pair, new = ca.issue("a.example"), ca.issue("a.example", "new.example", file="new")
    origin = Nginx(scratch)
    front = Front(scratch, f"tls: {{ {certificates(pair)} }}", f'endpoints: ["127.0.0.1:{origin.port}"]')
    context = ssl.create_default_context(cafile=ca.cert)
    held = context.wrap_socket(connect(front.port), server_hostname="a.example")

    def serial():
        return openssl_serial(front.s_client("-showcerts").stdout)

    before = serial()
    # In place, the certificate first and half of it: neither half nor a stranger's key is taken.
    with open(new.cert) as file:
        text = file.read()
    with open(pair.cert, "w") as half:
        half.write(text[:len(text) // 2])
    eventually(lambda: "not taken" in front.sluice.output(), "a damaged certificate is noticed")
    assert serial() == before
    shutil.copy(new.cert, pair.cert)
    eventually(lambda: "the private key is not the certificate's" in front.sluice.output(), "a pair that does not match")
    assert serial() == before
    shutil.copy(new.key, pair.key)
    eventually(lambda: serial() != before, "the new pair is in use")
    assert "certificate replaced" in front.sluice.output()
    assert front.metric("sluice_tls_file_reloads_total", 'result="applied"') == 1
    assert front.metric("sluice_tls_file_reloads_total", 'result="refused"') >= 2
    expiry = front.metric("sluice_tls_certificate_expiry_timestamp_seconds", f'certificate="{pair.cert}"', 'listener="web"')
    assert 9 * 86400 < expiry - time.time() < 11 * 86400
    # What was open goes on.
    held.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in read_all(held)


def openssl_serial(shown):
    pem = re.search(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.S).group(0)
    return run("openssl", "x509", "-noout", "-serial", stdin=pem).stdout


def test_a_secret_mounts_swap(scratch, ca):
    """As the kubelet does: files are links through ..data, which is renamed over."""
    mount = f"{scratch.path}/mount"
    old, new = ca.issue("a.example"), ca.issue("a.example", file="new")
    for name, pair in (("..1", old), ("..2", new)):
        os.makedirs(f"{mount}/{name}")
        shutil.copy(pair.cert, f"{mount}/{name}/tls.crt")
        shutil.copy(pair.key, f"{mount}/{name}/tls.key")
    os.symlink("..1", f"{mount}/..data")
    for file in ("tls.crt", "tls.key"):
        os.symlink(f"..data/{file}", f"{mount}/{file}")
    origin = Nginx(scratch)
    front = Front(scratch, f"tls: {{ certificates: [{{ cert: {mount}/tls.crt, key: {mount}/tls.key }}] }}",
                  f'endpoints: ["127.0.0.1:{origin.port}"]')
    before = openssl_serial(front.s_client("-showcerts").stdout)
    os.symlink("..2", f"{mount}/..data_tmp")
    os.rename(f"{mount}/..data_tmp", f"{mount}/..data")
    eventually(lambda: openssl_serial(front.s_client("-showcerts").stdout) != before, "the new pair is in use")


def test_a_symlinked_directory_of_the_path_is_swapped(scratch, ca):
    """As releases are swapped: the policy names the files through a link to their directory."""
    directory = f"{scratch.path}/releases"
    for name in ("v1", "v2", "v3"):
        pair = ca.issue("a.example", file=name)
        os.makedirs(f"{directory}/{name}")
        shutil.copy(pair.cert, f"{directory}/{name}/tls.crt")
        shutil.copy(pair.key, f"{directory}/{name}/tls.key")
    os.symlink("v1", f"{directory}/current")

    def swap(name):
        os.symlink(name, f"{directory}/next")
        os.rename(f"{directory}/next", f"{directory}/current")

    origin = Nginx(scratch)
    front = Front(scratch, f"tls: {{ certificates: [{{ cert: {directory}/current/tls.crt, key: {directory}/current/tls.key }}] }}",
                  f'endpoints: ["127.0.0.1:{origin.port}"]')
    before = openssl_serial(front.s_client("-showcerts").stdout)
    swap("v2")
    eventually(lambda: openssl_serial(front.s_client("-showcerts").stdout) != before, "the new pair is in use")
    # Whoever asks for a reload need not wait until it is noticed.
    replaced = front.sluice.output().count("certificate replaced")
    swap("v3")
    front.sluice.ctl("reload")
    assert front.sluice.output().count("certificate replaced") == replaced + 1


def test_check_says_what_is_wrong_with_files(scratch, ca):
    a, b = ca.issue("a.example"), ca.issue("b.example")
    policy = """version: 1
listeners:
  web: {{ bind: "127.0.0.1:1", tls: {{ certificates: [{{ cert: {cert}, key: {key} }}] }} }}
routes: [{{ respond: 404 }}]
""".replace("routes: [{{ respond: 404 }}]\n", "")
    from harness import SLUICE
    for cert, key, said in ((a.cert, b.key, "the private key is not the certificate's"),
                            ("/none.pem", a.key, "/none.pem: No such file or directory"),
                            (a.key, a.key, "there is no certificate in it"),
                            (a.cert, a.cert, "there is no private key")):
        path = scratch.write("bad.yaml", policy.format(cert=cert, key=key))
        done = run(SLUICE, "check", path)
        assert done.returncode != 0 and re.search(rf"bad\.yaml:3:\d+: error: .*{re.escape(said)}".encode(), done.stderr), done
    assert run(SLUICE, "check", scratch.write("good.yaml", policy.format(cert=a.cert, key=a.key))).returncode == 0
    with open(a.key) as key:
        secret = key.read().splitlines()[1]
    for line in (done.stdout, done.stderr):
        assert secret.encode() not in line


# --- towards origins

def https_origin(scratch, pair, name="secure", extra="", http2=""):
    """An nginx that speaks TLS, beside its plain port."""
    port = free_port()
    origin = Nginx(scratch, name, extra=f"""}} server {{ listen 127.0.0.1:{port} ssl {http2}; ssl_certificate {pair.cert};
      ssl_certificate_key {pair.key}; ssl_session_cache shared:{name}:1m; {extra}
      location / {{ default_type text/plain; return 200 "{name} sni=$ssl_server_name reused=$ssl_session_reused $server_protocol $ssl_client_s_dn $http_x_forwarded_proto\\n"; }}""")
    origin.tls_port = port
    return origin


def test_an_origin_by_its_name(scratch, ca):
    origin = https_origin(scratch, ca.issue("api.internal"))
    front = Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.tls_port}"], tls: {{ ca: {ca.cert}, sni: api.internal }}')
    done = run("curl", "-sS", f"http://127.0.0.1:{front.port}/", f"http://127.0.0.1:{front.port}/")
    assert done.stdout.count(b"secure sni=api.internal reused=. HTTP/1.1") == 2, done


def test_an_origin_by_its_address(scratch, ca):
    origin = https_origin(scratch, ca.issue("127.0.0.1"))
    front = Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.tls_port}"], tls: {{ ca: {ca.cert} }}')
    assert b"secure sni= " in run("curl", "-sS", f"http://127.0.0.1:{front.port}/").stdout


@pytest.mark.parametrize("protocol, spoken", [("auto", b"HTTP/2.0"), ("http1", b"HTTP/1.1"), ("http2", b"HTTP/2.0")])
def test_http2_to_an_origin_by_alpn(scratch, ca, protocol, spoken):
    origin = https_origin(scratch, ca.issue("127.0.0.1"), http2="http2")
    front = Front(scratch, f"tls: {{ {certificates(ca.issue('a.example'))} }}",
                  f'endpoints: ["127.0.0.1:{origin.tls_port}"], protocol: {protocol}, tls: {{ ca: {ca.cert} }}')
    for version in ("--http1.1", "--http2"):
        done = front.curl("a.example", version, ca=ca)
        assert spoken in done.stdout and b"https\n" in done.stdout, done
    load = run("h2load", "-n", "1000", "-c", "4", "-m", "25", f"https://127.0.0.1:{front.port}/")
    assert b"1000 succeeded, 0 failed" in load.stdout, load.stdout


def test_http2_only_against_an_origin_without(scratch, ca):
    origin = https_origin(scratch, ca.issue("127.0.0.1"))
    front = Front(scratch, "protocol: http",
                  f'endpoints: ["127.0.0.1:{origin.tls_port}"], protocol: http2, tls: {{ ca: {ca.cert} }}, retry: {{ attempts: 0 }}')
    done = run("curl", "-sS", "-w", "%{http_code}", f"http://127.0.0.1:{front.port}/")
    assert done.stdout.endswith(b"502") and b"no application protocol" in done.stdout, done


@pytest.mark.parametrize("fault, reason", [
    ("name", "hostname mismatch"), ("expired", "certificate has expired"), ("authority", "self-signed certificate in certificate chain|unable to get local issuer"),
])
def test_an_origin_that_cannot_be_believed(scratch, ca, fault, reason):
    pair = ca.issue("other.internal" if fault == "name" else "api.internal", days=-1 if fault == "expired" else 10)
    trusted = Authority(scratch.path, "another").cert if fault == "authority" else ca.cert
    origin = https_origin(scratch, pair)
    tls = f"tls: {{ ca: {trusted}, sni: api.internal }}"
    front = Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.tls_port}"], {tls}, retry: {{ attempts: 0 }}')
    done = run("curl", "-sS", "-w", "%{http_code}", f"http://127.0.0.1:{front.port}/")
    assert done.stdout.endswith(b"502"), done
    eventually(lambda: re.search(reason, front.access_log()), f"the log says why: {front.access_log()}")
    assert front.metric("sluice_upstream_tls_failures_total") >= 1
    front.sluice.write_policy(front.text.replace("tls: { ca", "tls: { verify: false, ca"))
    eventually(lambda: b"sni=api.internal" in run("curl", "-sS", f"http://127.0.0.1:{front.port}/").stdout, "unverified")
    # And back: connections that were made without looking are not used again.
    front.sluice.write_policy(front.text)
    eventually(lambda: run("curl", "-sS", "-w", "%{http_code}", f"http://127.0.0.1:{front.port}/").stdout.endswith(b"502"), "verified again")


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_an_origin_that_wants_a_certificate_says_so(scratch, ca, protocol):
    """With TLS 1.3 the handshake has ended well for the client, and the request is on its way, when the refusal comes."""
    pair = ca.issue("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca.cert)
    context.load_cert_chain(pair.cert, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2", "http/1.1"])

    def refuse(connection, _):
        held = connection.raw.dup()  # a close would be a reset, which takes the alert away
        secure = context.wrap_socket(connection.raw, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            secure.do_handshake()
        while held.recv(65536):
            pass
        held.close()

    origin = Origin(scratch, refuse)
    proxy = Proxy(scratch, [origin.port], upstream=f"protocol: {protocol}, tls: {{ ca: {ca.cert} }}, retry: {{ attempts: 0 }}")
    done = run("curl", "-sS", "-w", "%{http_code}", f"http://127.0.0.1:{proxy.port}/")
    assert done.stdout.endswith(b"502"), done
    assert "alert certificate required" in proxy.logged(status=502)["reason"]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_sessions_with_an_origin_are_resumed(scratch, ca, version):
    origin = https_origin(scratch, ca.issue("127.0.0.1"), extra=f"ssl_protocols {version}; keepalive_timeout 0;")
    front = Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.tls_port}"], tls: {{ ca: {ca.cert} }}')
    answers = [run("curl", "-sS", f"http://127.0.0.1:{front.port}/").stdout for _ in range(4)]
    assert b"reused=." in answers[0] and b"reused=r" in answers[-1], answers


def test_a_certificate_for_the_origin(scratch, ca):
    own = ca.issue(cn="gateway", file="gateway")
    origin = https_origin(scratch, ca.issue("127.0.0.1"), extra=f"ssl_verify_client on; ssl_client_certificate {ca.cert};")
    tls = f"tls: {{ ca: {ca.cert}, cert: {own.cert}, key: {own.key} }}"
    front = Front(scratch, "protocol: http", f'endpoints: ["127.0.0.1:{origin.tls_port}"], {tls}')
    assert b"CN=gateway" in run("curl", "-sS", f"http://127.0.0.1:{front.port}/").stdout


def test_health_checks_speak_tls(scratch, ca):
    good, expired = https_origin(scratch, ca.issue("api.internal")), https_origin(scratch, ca.issue("api.internal", file="old", days=-1), "old")
    front = Front(scratch, "protocol: http",
                  f'endpoints: ["127.0.0.1:{good.tls_port}", "127.0.0.1:{expired.tls_port}"], tls: {{ ca: {ca.cert}, sni: api.internal }}, '
                  "health_check: { http: /, interval: 1s }")
    eventually(lambda: "certificate has expired" in front.sluice.output(), "the expired one is found")
    health = {e["address"]: e["healthy"] for e in front.sluice.status()["upstreams"][0]["endpoints"]}
    assert health == {f"127.0.0.1:{good.tls_port}": True, f"127.0.0.1:{expired.tls_port}": False}


@pytest.mark.parametrize("protocol", ["auto", "http2"])
def test_health_checks_ask_as_requests_do(scratch, ca, protocol):
    """By HTTP/2 where ALPN chooses it, with TLS's scheme and the name of `sni`: strict origins refuse others, or have other hosts."""
    own = ca.issue("api.internal")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.cert, own.key)
    context.set_alpn_protocols(["h2"])
    heads = []

    def play(connection, _):
        with context.wrap_socket(connection.raw, server_side=True) as peer:
            if peer.selected_alpn_protocol() != "h2":
                return
            session = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
            session.initiate_connection()
            peer.sendall(session.data_to_send())
            while data := peer.recv(65536):
                for event in session.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        heads.append(dict(event.headers))
                        session.send_headers(event.stream_id, [(":status", "204")], end_stream=True)
                peer.sendall(session.data_to_send())
    origin = Origin(scratch, play)
    front = Front(scratch, "protocol: http",
                  f'endpoints: ["127.0.0.1:{origin.port}"], protocol: {protocol}, tls: {{ ca: {ca.cert}, sni: api.internal }}, '
                  "health_check: { http: /up, interval: 100ms, unhealthy_threshold: 1 }")
    eventually(lambda: len(heads) >= 3, "checks come by HTTP/2")
    assert {(head[":scheme"], head[":authority"], head[":path"]) for head in heads} == {("https", f"api.internal:{origin.port}", "/up")}
    assert front.sluice.status()["upstreams"][0]["endpoints"][0]["healthy"]


# --- passed through

def through(front, name, ca, *more):
    return front.curl(name, *more, ca=ca).stdout


def passing(scratch, ca, protocol, **options):
    a, b = (https_origin(scratch, ca.issue(f"{n}.example", f"*.{n}.example"), n) for n in ("a", "b"))
    plain = Nginx(scratch, "plain")
    front = Front(scratch, f"protocol: {protocol}, timeouts: {{ handshake: 1s, detect: 300ms }}", f'endpoints: ["127.0.0.1:{a.tls_port}"]',
                  extra=f'  b: {{ endpoints: ["127.0.0.1:{b.tls_port}"] }}\n  plain: {{ endpoints: ["127.0.0.1:{plain.port}"] }}',
                  routes='[{ host: a.example, upstream: origin }, { host: "*.b.example", upstream: b }, { path: /plain, upstream: plain }]',
                  **options)
    return front


def hello(name, context=None):
    """A real ClientHello, as bytes."""
    context = context or ssl._create_unverified_context()
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def test_passed_through_by_name(scratch, ca):
    front = passing(scratch, ca, "tls")
    assert b"a sni=a.example" in through(front, "a.example", ca)
    assert b"b sni=x.b.example" in through(front, "x.b.example", ca)
    assert front.curl("c.example", ca=ca).returncode != 0  # no route
    with connect(front.port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert read_all(client) == b""
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="not_tls"') == 1
    with connect(front.port) as client:
        client.sendall(b"\x16\x03")
        assert read_all(client) == b""
    assert front.metric("sluice_tls_handshake_failures_total", 'reason="timeout"') == 1
    eventually(lambda: "x.b.example" in front.access_log(), "the name is logged")


@pytest.mark.parametrize("protocol", ["tls", "auto"])
def test_passed_through_to_whom_the_routes_of_the_names_let_in(scratch, ca, protocol):
    """Two names and one origin: each name's route says who is let in, and who gives none of them is not."""
    origin = https_origin(scratch, ca.issue("a.example", "b.example", "c.example"), "both")
    front = Front(scratch, f"protocol: {protocol}", f'endpoints: ["127.0.0.1:{origin.tls_port}"]',
                  routes="[{ host: a.example, upstream: origin, access: { allow: [127.0.0.1] } }, "
                         "{ host: b.example, upstream: origin, access: { deny: [127.0.0.1] } }, { host: c.example, upstream: origin }, "
                         "{ upstream: origin }]")
    assert b"both sni=a.example" in through(front, "a.example", ca)
    assert front.curl("b.example", ca=ca).returncode != 0
    assert b"both sni=c.example" in through(front, "c.example", ca)
    assert front.curl("d.example").returncode != 0
    eventually(lambda: "access denied" in front.access_log() and "no HTTP" in front.access_log(), "both are logged")
    # Where a part of it is guarded, only who speaks HTTP can be told apart.
    front.sluice.write_policy(front.text.replace("{ host: c.example, upstream: origin }", "{ host: c.example, path: /private, "
                                                 "upstream: origin, access: { deny: [0.0.0.0/0] } }, { host: c.example, upstream: origin }"))
    front.sluice.ctl("reload")
    assert [front.curl(name).returncode != 0 for name in ("a.example", "b.example", "c.example")] == [True] * 3


def test_a_hello_in_pieces_records_and_sizes(scratch, ca):
    front = passing(scratch, ca, "tls")
    whole = hello("x.b.example")
    with connect(front.port) as client:  # a byte a segment
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in whole:
            client.send(bytes([byte]))
        assert client.recv(3)[0] == 0x16
    message = whole[5:]
    with connect(front.port) as client:  # a record for each seven bytes
        client.sendall(b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
                                for part in (message[i:i + 7] for i in range(0, len(message), 7))))
        assert client.recv(3)[0] == 0x16
    context = ssl._create_unverified_context()
    context.set_alpn_protocols([f"protocol-{i:0240}" for i in range(120)] + ["http/1.1"])
    large = hello("x.b.example", context)
    assert len(large) > 16384 + 5
    with connect(front.port) as client:
        client.sendall(large)
        assert client.recv(3)[0] == 0x16


def test_auto_on_one_port(scratch, ca):
    front = passing(scratch, ca, "auto")
    assert b"b sni=x.b.example" in through(front, "x.b.example", ca)
    assert b"plain" in run("curl", "-sS", f"http://127.0.0.1:{front.port}/plain").stdout


def test_auto_ends_tls_where_it_has_certificates(scratch, ca):
    origin = Nginx(scratch)
    front = Front(scratch, f"protocol: auto, tls: {{ {certificates(ca.issue('a.example'))} }}", f'endpoints: ["127.0.0.1:{origin.port}"]')
    assert b"GET a.example" in front.curl("a.example", "--http2", ca=ca).stdout
    assert b"GET" in run("curl", "-sS", f"http://127.0.0.1:{front.port}/").stdout


def test_tcp_inside_of_tls(scratch, ca):
    origin = Nginx(scratch)
    front = Front(scratch, f"protocol: tcp, tls: {{ {certificates(ca.issue('a.example'))} }}", f'endpoints: ["127.0.0.1:{origin.port}"]')
    assert b"origin 127.0.0.1 GET a.example" in front.curl("a.example", ca=ca).stdout
