"""Who may call: API keys, tokens and external services, with curl in front and real servers behind."""
import base64
import hashlib
import http.server
import json
import socket
import threading
import time
import urllib.request

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from harness import HANG, Nginx, Sluice, connect, curl, eventually, free_port
from scripted import GET, Origin, Proxy, read_answer, serving

ECHO = """
    location /echo { default_type application/json; client_max_body_size 0;
      return 200 '{"user":"$http_x_user","who":"$http_x_who","authorization":"$http_authorization","key":"$http_x_api_key","uri":"$request_uri"}'; }
"""
KEYS = {"RS256": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate()}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(algorithm, key, kid):
    public = key.public_key()
    if algorithm == "RS256":
        n = public.public_numbers()
        return {"kty": "RSA", "kid": kid, "use": "sig", "n": b64(n.n.to_bytes(256, "big")), "e": b64(n.e.to_bytes(3, "big"))}
    if algorithm == "ES256":
        n = public.public_numbers()
        return {"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(n.x.to_bytes(32, "big")), "y": b64(n.y.to_bytes(32, "big"))}
    from cryptography.hazmat.primitives import serialization
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(raw)}


def jwks(*kids):
    return json.dumps({"keys": [jwk(a, KEYS[a], a.lower()) for a in KEYS if a in kids or not kids]})


def token(algorithm="RS256", kid=None, key=None, **claims):
    body = {"iss": "https://idp.example", "aud": ["api"], "sub": "alice", "exp": int(time.time()) + 600, "scope": "read write"}
    body.update(claims)
    body = {name: value for name, value in body.items() if value is not None}
    return pyjwt.encode(body, key or KEYS[algorithm], algorithm=algorithm, headers={"kid": kid or algorithm.lower()})


class Front:
    def __init__(self, scratch, auth, route, more="", upstreams="", listener=""):
        self.scratch, self.port, self.metrics_port = scratch, free_port(), free_port()
        self.origin, self.upstreams = Nginx(scratch, extra=ECHO), upstreams
        self.listener = listener
        self.sluice = Sluice(scratch, self.policy(auth, route, more))

    def policy(self, auth, route, more=""):
        return f"""version: 1
state_dir: {self.scratch.path}/state
workers: 1
metrics: {{ bind: "127.0.0.1:{self.metrics_port}" }}
logs: {{ access: {{ format: json, path: {self.scratch.path}/access.log }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{self.port}"{self.listener} }} }}
upstreams: {{ {self.upstreams} api: {{ endpoints: ["127.0.0.1:{self.origin.port}"] }} }}
auth:
{auth}
routes:
  - {{ upstream: api{route} }}
{more}
"""

    def get(self, *arguments, path="/echo", version="--http1.1"):
        code, body, head = curl(version, *arguments, f"http://127.0.0.1:{self.port}{path}")
        assert code == 0, (code, head, body)
        lines = head.strip().splitlines()
        fields = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        return int(lines[0].split()[1]), fields, body.decode()

    def bearer(self, value, **more):
        return self.get("-H", f"Authorization: Bearer {value}", **more)

    def metric(self, *parts):
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=HANG).read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if all(part in line for part in parts))


# --- API keys

@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_api_keys(scratch, version):
    key = "k" + "5" * 40
    front = Front(scratch, f"  keys: {{ api_keys: {{ keys: [{{ name: alice, sha256: {hashlib.sha256(key.encode()).hexdigest()}, attributes: {{ plan: gold }} }}] }} }}",
                  ', auth: [keys], request_headers: { set: { x-who: "%claim.sub%/%claim.plan%" } }')
    status, fields, _ = front.get(version=version)
    assert status == 401 and fields["www-authenticate"] == 'ApiKey realm="keys"'
    assert front.get("-H", "X-Api-Key: " + key[:-1], version=version)[0] == 401
    assert front.get("-H", "X-Api-Key: " + key, "-H", "X-Api-Key: other", version=version)[0] == 401
    status, _, body = front.get("-H", "X-Api-Key: " + key, "-H", "X-Who: root", version=version)
    assert status == 200 and json.loads(body)["who"] == "alice/gold"
    assert json.loads(body)["key"] == ""  # it goes no further
    assert front.metric("sluice_auth_verdicts_total", 'verdict="allowed"') == 1
    assert key not in front.sluice.output()


@pytest.mark.parametrize("pieces", [
    [b"", b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"], [b"G", b"ET /echo HTTP/1.1\r\nHost: a\r\n\r\n"], [b"get /echo HTTP/1.0\r\n\r\n"],
    [b"AMETHODLONGERTHANSIXTEEN /echo HTTP/1.1\r\nHost: a\r\n\r\n"], [b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"]])
@pytest.mark.parametrize("guarded", ["{ upstream: api, auth: [keys] }", "{ path: /private, upstream: api, auth: [keys] }, { upstream: api }"])
def test_who_does_not_speak_http_does_not_get_around_it(scratch, pieces, guarded):
    keys = f"  keys: {{ api_keys: {{ keys: [{{ name: a, sha256: {hashlib.sha256(b'k').hexdigest()} }}] }} }}"
    front = Front(scratch, keys, "")
    text = front.policy(keys, "").replace('web: { bind: "127', 'web: { protocol: auto, timeouts: { detect: 100ms }, bind: "127')
    front.sluice.write_policy(text.replace("  - { upstream: api }", f"  [{guarded}]"))
    front.sluice.ctl("reload")
    assert front.get(path="/private")[0] == 401
    with socket.create_connection(("127.0.0.1", front.port), HANG) as client:
        client.settimeout(HANG)
        answer = b""
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.4)
            while more := client.recv(4096):
                answer += more
        except ConnectionError:
            pass
    assert b"200" not in answer and b"uri" not in answer, answer


def test_explain_takes_the_steps_in_the_gateways_order(scratch):
    """Who is not known is told so (401), even where access rules would refuse anybody from there (403)."""
    key = "k" + "6" * 40
    front = Front(scratch, f"  keys: {{ api_keys: {{ keys: [{{ name: alice, sha256: {hashlib.sha256(key.encode()).hexdigest()} }}] }} }}",
                  ", auth: [keys], access: { deny: [127.0.0.0/8] }, limits: [few]", more="limits: { few: { key: [client_ip], rate: 1/h, burst: 1 } }")
    asked = [front.get()[0], front.get("-H", "X-Api-Key: " + key)[0], front.get("-H", "X-Api-Key: " + key)[0]]
    assert asked == [401, 403, 403]
    said = json.loads(front.sluice.ctl("explain", f"http://127.0.0.1:{front.port}/echo", "--from", "127.0.0.1", "--listener", "web",
                                       "--output", "json").stdout)
    assert [step["phase"] for step in said["steps"]] == ["listener", "route", "auth", "access"]
    assert said["status"] == asked[1]


# --- tokens

JWT = "  partners: {{ jwt: {{ issuer: \"https://idp.example\", audience: [api], jwks: {{ file: {file} }}, leeway: 5s }} }}"


def test_claims_in_access_rules_and_limits(scratch):
    path = scratch.write("jwks.json", jwks())
    front = Front(scratch, JWT.format(file=path), ', auth: [partners], limits: [each], access: { '
                  'allow: [{ claim: { name: groups, has: admins } }, { claim: { name: sub, regex: "svc-.*" } }], '
                  'deny: [{ claim: { name: tenant, exact: closed } }] }',
                  more="limits: { each: { key: [{ claim: sub }], rate: 1/h, burst: 1 } }")
    status = lambda **claims: front.bearer(token("EdDSA", **claims))[0]
    assert status(sub="a", groups=["ops", "admins"]) == 200
    assert status(sub="b", groups=["not admins"]) == 403
    assert status(sub="c") == 403
    assert status(sub="svc-1") == 200
    assert status(sub="svc-1") == 429
    assert status(sub="svc-2", tenant="closed") == 403
    assert status(sub="svc-2", tenant="open") == 200


@pytest.fixture
def tokens(scratch):
    path = scratch.write("jwks.json", jwks())
    return Front(scratch, JWT.format(file=path), ', auth: [partners], request_headers: { set: { x-who: "%claim.sub% %claim.scope%" } }')


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_good_tokens(tokens, algorithm):
    for _ in range(2):  # the second time from what is remembered
        status, _, body = tokens.bearer(token(algorithm))
        assert status == 200 and json.loads(body)["who"] == "alice read write"
    assert tokens.bearer(token(algorithm, aud="api"))[0] == 200
    assert tokens.bearer(token(algorithm, exp=int(time.time()) - 2))[0] == 200  # within the leeway


def forged(header, claims=None, signature=b""):
    claims = claims or {"iss": "https://idp.example", "aud": "api", "sub": "root", "exp": int(time.time()) + 600}
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{b64(signature)}"


@pytest.mark.parametrize("make, why", [
    (lambda: token(exp=int(time.time()) - 60), "expired"),
    (lambda: token(exp=None), "no expiry"),
    (lambda: token(nbf=int(time.time()) + 60), "not valid yet"),
    (lambda: token(iss="https://evil.example"), "issuer"),
    (lambda: token(aud="other"), "audience"),
    (lambda: token(aud=None), "audience"),
    (lambda: token(key=rsa.generate_private_key(65537, 2048)), "signature"),
    (lambda: token(kid="unheard-of"), "unknown"),
    (lambda: forged({"alg": "none", "kid": "rs256"}), "not allowed"),
    (lambda: forged({"alg": "HS256", "kid": "rs256"}), "not allowed"),
    (lambda: forged({"alg": "ES256", "kid": "rs256"}, signature=b"x" * 64), "signature"),
    (lambda: forged({"alg": "RS256", "kid": "rs256", "crit": ["exp"]}), "malformed"),
    (lambda: token()[:-4] + "AAAA", "signature"),
    (lambda: token() + ".x", "malformed"),
    (lambda: "not-a-token", "malformed"),
])
def test_bad_tokens(tokens, make, why):
    status, fields, body = tokens.bearer(make())
    assert status == 401 and why in body
    assert fields["www-authenticate"].startswith('Bearer realm="partners", error="invalid_token"')
    assert tokens.get()[1]["www-authenticate"] == 'Bearer realm="partners"'


def test_algorithms_are_pinned(scratch):
    path = scratch.write("jwks.json", jwks())
    front = Front(scratch, f"  partners: {{ jwt: {{ algorithms: [ES256], jwks: {{ file: {path} }} }} }}", ", auth: [partners]")
    assert front.bearer(token("ES256"))[0] == 200
    assert front.bearer(token("RS256"))[0] == 401


def test_a_new_key_file_is_read_and_a_broken_one_is_not(tokens, scratch):
    scratch.write("jwks.json", '{"keys": [')
    eventually(lambda: "last good keys" in tokens.sluice.output(), "the broken file is reported")
    assert tokens.bearer(token("RS256"))[0] == 200
    scratch.write("jwks.json", jwks("ES256"))
    eventually(lambda: tokens.bearer(token("RS256"))[0] == 401, "the old key is forgotten")
    assert tokens.bearer(token("ES256"))[0] == 200


def test_one_of_several_suffices(scratch):
    path = scratch.write("jwks.json", jwks())
    key = hashlib.sha256(b"secret-key").hexdigest()
    front = Front(scratch, JWT.format(file=path) + f"\n  keys: {{ api_keys: {{ keys: [{{ name: bob, sha256: {key} }}] }} }}",
                  ', auth: [partners, keys], request_headers: { set: { x-who: "%claim.sub%" } }')
    assert front.get()[0] == 401
    assert json.loads(front.bearer(token())[2])["who"] == "alice"
    assert json.loads(front.get("-H", "X-Api-Key: secret-key")[2])["who"] == "bob"


class Service:
    """A small HTTP server in this process, told what to say."""

    def __init__(self, answer):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                service.seen.append((self.path, dict(self.headers)))
                status, fields, body = answer(self)
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.seen = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def test_keys_by_url(scratch):
    said = {"text": jwks("RS256"), "status": 200}
    with Service(lambda _: (said["status"], [], said["text"].encode())) as idp:
        front = Front(scratch, f'  partners: {{ jwt: {{ jwks: {{ url: "http://127.0.0.1:{idp.port}/keys?x=1", refresh: 1s }} }} }}', ", auth: [partners]")
        eventually(lambda: front.bearer(token("RS256"))[0] == 200, "keys are fetched")
        assert idp.seen[0][0] == "/keys?x=1"
        assert front.bearer(token("ES256"))[0] == 401
        said["text"] = jwks()
        eventually(lambda: front.bearer(token("ES256"))[0] == 200, "new keys are fetched")
        said["status"] = 500
        eventually(lambda: "last good keys stay" in front.sluice.output(), "the failure is reported")
        assert front.bearer(token("ES256"))[0] == 200


def test_without_any_keys_nobody_is_let_in(scratch):
    front = Front(scratch, f'  partners: {{ jwt: {{ jwks: {{ url: "http://127.0.0.1:{free_port()}/" }} }} }}', ", auth: [partners]")
    status, fields, _ = front.bearer(token())
    assert status == 503 and fields["retry-after"] == "1"


# --- external services

def verdict(handler):
    if handler.headers.get("Authorization") == "Basic good":
        return 200, [("X-User", "carol"), ("X-Other", "no")], b""
    if handler.headers.get("Authorization") == "Basic slow":
        time.sleep(1)
    if handler.headers.get("Authorization") == "Basic broken":
        return 500, [], b"oops"
    return 302, [("Location", "https://login.example/"), ("Set-Cookie", "a=b")], b"go and log in"


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_external_authorization(scratch, version):
    with Service(verdict) as service:
        front = Front(scratch, f'  portal: {{ external: {{ url: "http://127.0.0.1:{service.port}/check", timeout: 500ms, upstream_headers: [x-user] }} }}', ", auth: [portal]")
        status, _, body = front.get("-H", "Authorization: Basic good", "-H", "X-User: forged", path="/echo?a=b", version=version)
        assert status == 200 and json.loads(body)["user"] == "carol"
        path, fields = service.seen[-1]
        fields = {name.lower(): value for name, value in fields.items()}
        assert path == "/check" and fields["x-forwarded-uri"] == "/echo?a=b" and fields["x-forwarded-method"] == "GET"
        assert fields["x-forwarded-for"] == "127.0.0.1" and "content-length" not in fields
        status, fields, body = front.get(version=version)
        assert status == 302 and fields["location"] == "https://login.example/" and body == "go and log in"
        assert front.get("-H", "Authorization: Basic slow", version=version)[0] == 503
        assert front.get("-H", "Authorization: Basic broken", version=version)[0] == 503
        assert front.metric("sluice_auth_verdicts_total", 'verdict="error"') == 2
        # A body waits while the service thinks. It fits into a window of HTTP/2: curl 7.88 hangs if the
        # answer ends before what is to be sent, and this origin answers without reading.
        status, _, _ = front.get("-H", "Authorization: Basic good", "-d", "x" * 60_000, version=version)
        assert status == 200


@pytest.mark.parametrize("trusted, client_from, believed", [
    ("192.0.2.0/24", "x_forwarded_for", set()), ("127.0.0.0/8", "x_forwarded_for", {"x-real-ip", "x-forwarded-port"}),
    ("127.0.0.0/8", "forwarded", {"forwarded"})], ids=["nobody", "x_forwarded_for", "forwarded"])
def test_a_service_hears_of_the_client_from_those_alone_who_are_believed(scratch, trusted, client_from, believed):
    with Service(lambda _: (200, [], b"")) as service:
        front = Front(scratch, f'  portal: {{ external: {{ url: "http://127.0.0.1:{service.port}/" }} }}', ", auth: [portal]",
                      more=f"trusted_proxies: [{trusted}]", listener=f", client_from: {client_from}")
        said = {"x-real-ip": "10.6.6.6", "forwarded": "for=10.6.6.6", "x-forwarded-port": "99"}
        assert front.get(*(word for name, value in said.items() for word in ("-H", f"{name}: {value}")))[0] == 200
        heard = {name.lower(): value for name, value in service.seen[-1][1].items()}
        assert {name: heard[name] for name in said if name in heard} == {name: said[name] for name in believed}
        assert heard["x-forwarded-for"] == ("10.6.6.6" if believed == {"forwarded"} else "127.0.0.1")


def test_many_are_refused_at_a_time(scratch):
    """More than the gateway keeps memory for: with its refusal, each of the others is gone."""
    release = threading.Event()
    scratch.closers.append(release.set)
    service = Origin(scratch, lambda peer, _: peer.head() and release.wait(HANG) and peer.answer(b"no", b"403 Forbidden"))
    front = Front(scratch, f'  portal: {{ external: {{ url: "http://127.0.0.1:{service.port}/", timeout: 60s }} }}', ", auth: [portal]")
    clients = [connect(front.port) for _ in range(400)]
    for client in clients:
        client.sendall(GET)
    eventually(lambda: len(service.requests) == len(clients), "all are asked for")
    release.set()
    for client in clients:
        with client:
            assert read_answer(client).startswith(b"HTTP/1.1 403 ")


def test_external_authorization_that_may_fail_open(scratch):
    front = Front(scratch, f'  portal: {{ external: {{ url: "http://127.0.0.1:{free_port()}/", on_error: allow, upstream_headers: [x-user] }} }}', ", auth: [portal]")
    status, _, body = front.get("-H", "X-User: forged")
    assert status == 200 and json.loads(body)["user"] == ""
    eventually(lambda: '"let through (on_error): authorization cannot connect"' in open(f"{scratch.path}/access.log").read(), "the log says why")


def cut(peer):
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nab")


def slow(peer):
    peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nab")
    peer.until_closed()


@pytest.mark.parametrize("on_error", ["allow", "deny"])
@pytest.mark.parametrize("answer", [lambda peer: peer.answer(b"y" * 100_000, b"403 Forbidden"), cut, slow], ids=["large", "cut", "slow"])
def test_a_refusal_holds_whatever_becomes_of_its_body(scratch, answer, on_error):
    service = Origin(scratch, lambda peer, _: peer.head() and answer(peer))
    front = Front(scratch, f'  portal: {{ external: {{ url: "http://127.0.0.1:{service.port}/", timeout: 500ms, on_error: {on_error} }} }}', ", auth: [portal]")
    status, fields, body = front.get()
    assert status == 403 and body == "" and "content-type" not in fields
    assert front.metric("sluice_auth_verdicts_total", 'verdict="denied"') == 1


def test_who_is_let_in_is_let_in_whatever_becomes_of_the_body(scratch):
    service = Origin(scratch, lambda peer, _: peer.head() and peer.answer(b"y" * 100_000))
    front = Front(scratch, f'  portal: {{ external: {{ url: "http://127.0.0.1:{service.port}/" }} }}', ", auth: [portal]")
    assert front.get()[0] == 200


# --- mirrors

def test_a_mirror_gets_copies_and_changes_nothing(scratch):
    def shadow(handler):
        length = int(handler.headers.get("Content-Length", 0))
        bodies.append((handler.command, handler.path, handler.headers.get("X-A"), handler.rfile.read(length)))
        time.sleep(0.3)  # slow, and broken
        return 500, [], b"x"

    bodies = []
    with Service(shadow) as service:
        front = Front(scratch, "  none: { api_keys: { keys: [{ name: a, sha256: " + "1" * 64 + " }] } }",
                      ', mirror: { upstream: shadow }, rewrite: { path: /echo/new }, request_headers: { set: { x-a: "1" } }',
                      upstreams=f'shadow: {{ endpoints: ["127.0.0.1:{service.port}"] }},')
        assert json.loads(front.get(path="/echo?q=1")[2])["uri"] == "/echo/new?q=1"
        assert front.get("-d", "some=body")[0] == 200
        eventually(lambda: len(bodies) == 2, "both copies arrive")
        assert sorted(bodies) == [("GET", "/echo/new?q=1", "1", b""), ("POST", "/echo/new", "1", b"some=body")]
        assert front.metric("sluice_mirrored_requests_total", 'result="sent"') == 2
        # A body beyond 1 MiB is not mirrored, whether that is said beforehand or not. This origin
        # answers without reading it, so that the gateway may not come to see how long it is.
        scratch.write("large", "x" * (1024 * 1024 + 1))
        large = ["-H", "Expect:", "--data-binary", f"@{scratch.path}/large"]
        assert front.get(*large)[0] == 200
        assert front.metric("sluice_mirrored_requests_total", 'result="too_large"') == 1
        assert front.get(*large, "-H", "Transfer-Encoding: chunked")[0] == 200
        eventually(lambda: sum(front.metric("sluice_mirrored_requests_total", f'result="{r}"') for r in ("too_large", "incomplete")) == 2,
                   "the other one is counted")
        assert front.metric("sluice_mirrored_requests_total", 'result="sent"') == 2
        assert len(bodies) == 2
    assert front.get()[0] == 200  # a mirror that is gone is not missed


def test_a_mirror_gets_a_copy_though_the_first_try_did_not_connect(scratch):
    shadow = Origin(scratch, serving())
    proxy = Proxy(scratch, [free_port(), Origin(scratch, serving()).port], workers=1, upstream="outlier_detection: { consecutive_connect_failures: 0 }")
    text = proxy.policy_text(route="mirror: { upstream: shadow }")
    proxy.write_policy(text.replace("upstreams: { ", f'upstreams: {{ shadow: {{ endpoints: ["127.0.0.1:{shadow.port}"] }}, '))
    proxy.ctl("reload")
    for _ in range(6):
        with proxy.connect() as client:
            client.sendall(GET)
            assert read_answer(client).startswith(b"HTTP/1.1 200 ")
    page = proxy.settled()
    assert page.value("sluice_upstream_retries_total", upstream="origins") >= 2
    assert page.value("sluice_mirrored_requests_total", result="sent") == 6
    eventually(lambda: len(shadow.requests) == 6, "each has its copy")
