"""All that came to the gateway later, in keeper mode, that is under its system call filter: Redis, DNS, TLS both ways,
external authorization, keys by URL, compression, HTTP/2, logs. Nothing of it may need a call that is refused."""
import http.server
import json
import os
import subprocess
import threading

import pytest

import netns
from certificates import Authority
from harness import HANG, Process, Scratch, eventually
from netns import Net, NodeSluice, run
from test_auth import jwks, token

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")


def serve(net, port, answer):
    """An HTTP server on the node: answer(path) says status, headers and body."""
    ready = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, *_):
            pass

    def body():
        with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            ready.set()
            server.serve_forever()

    netns.Thread(net.node, body)
    assert ready.wait(HANG)


def policy(scratch, front, origin, ca):
    return f"""version: 1
state_dir: {scratch.path}/state
workers: 2
metrics: {{ bind: "127.0.0.1:9464" }}
logs: {{ access: {{ format: json, path: {scratch.path}/access.log }} }}
cluster: {{ redis: {{ url: "redis://127.0.0.1:6379/2", password: "file:{scratch.path}/secret", on_loss: share }} }}
sets: {{ nobody: {{ file: {scratch.path}/nobody.netset, format: netset }} }}
guard: {{ interfaces: [lan0], rules: [{{ name: nobody, from: {{ set: nobody }} }}], per_source: {{ syn: 100000/s }} }}
intercept: {{ local: [{{ to: [203.0.113.0/24], ports: [443], listener: web }}] }}
listeners:
  web: {{ tls: {{ certificates: [{{ cert: {front.cert}, key: {front.key} }}] }} }}
upstreams:
  named: {{ endpoints: [{{ dns: "api.test:8443" }}], tls: {{ ca: {ca}, sni: origin.example }}, health_check: {{ http: /, interval: 1s, timeout: 500ms }},
           dns: {{ resolvers: ["127.0.0.1:5353"], min_ttl: 200ms, timeout: 500ms }} }}
limits: {{ all: {{ key: [client_ip], scope: cluster, rate: 100000/s }}, some: {{ key: [client_ip], unit: concurrency, max: 1000 }},
          hard: {{ key: [client_ip], rate: 2/h, burst: 2 }} }}
bans: {{ rules: [{{ when: {{ limit: hard, count: 1, within: 10s }}, for: 1h }}] }}
auth:
  tokens: {{ jwt: {{ issuer: "https://idp.example", audience: [api], jwks: {{ url: "http://127.0.0.1:9190/keys", refresh: 1s }} }} }}
  portal: {{ external: {{ url: "http://127.0.0.1:9191/check", timeout: 5s }} }}
routes:
  - {{ name: tokens, path: /tokens, upstream: named, auth: [tokens], limits: [all, some] }}
  - {{ name: portal, path: /portal, upstream: named, auth: [portal], limits: [all] }}
  - {{ name: text, path: /text, upstream: named, compression: {{}}, limits: [all] }}
  - {{ name: offence, path: /offence, upstream: named, limits: [hard] }}
  - {{ name: rest, upstream: named }}
"""


@pytest.fixture
def net():
    with Scratch() as scratch:
        yield Net(scratch)


def start_servers(net, authority):
    scratch = net.scratch
    scratch.write("secret", "open-sesame\n")
    scratch.write("nobody.netset", "192.0.2.0/24\n")
    redis = scratch.write("redis.conf", f'port 6379\nbind 127.0.0.1\nsave ""\nappendonly no\ndir {scratch.path}\nrequirepass open-sesame\n')
    Process(scratch, "redis", net.command(net.node, "redis-server", redis))
    Process(scratch, "dns", net.command(net.node, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=5353",
                                        "--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root",
                                        "--pid-file=", "--log-facility=-", "--local=/test/", "--host-record=api.test,10.72.0.2,1"))
    pair = authority.issue("origin.example")
    site = os.path.join(scratch.path, "site")
    os.makedirs(site)
    with open(os.path.join(site, "text"), "w") as file:
        file.write("a line that repeats itself\n" * 5000)
    config = scratch.write("origin.conf", f"""
user root; daemon off; worker_processes 1; pid {site}/pid; error_log {site}/error.log;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {site}; server {{ listen 8443 ssl http2; ssl_certificate {pair.cert};
  ssl_certificate_key {pair.key}; root {site}; location = /text {{ types {{ }} default_type text/plain; }}
  location / {{ return 200 "origin\\n"; }} }} }}
""")
    Process(scratch, "nginx", net.command(net.origin, "nginx", "-c", config, "-e", f"{site}/error.log"))
    serve(net, 9190, lambda path: (200, {"Content-Type": "application/json"}, jwks().encode()))
    serve(net, 9191, lambda path: (200, {"X-User": "alice"}, b""))


def test_nothing_that_the_gateway_does_is_refused(net):
    authority = Authority(net.scratch.path)
    start_servers(net, authority)
    front = authority.issue("web.example")
    sluice = NodeSluice(net, policy(net.scratch, front, None, authority.cert))
    run("ip", "-n", net.client, "addr", "add", "10.71.0.3/24", "dev", "eth0")

    def get(path, *options):
        return net.curl(f"https://web.example{path}", "--cacert", authority.cert, "--connect-to", "web.example:443:203.0.113.7:443",
                        "-w", " %{http_code} %{http_version}", *options)

    eventually(lambda: get("/") == "origin\n 200 2", f"the origin answers through TLS; {sluice.output()}")
    assert get("/", "--http1.1") == "origin\n 200 1.1"
    eventually(lambda: get("/tokens", "-H", f"Authorization: Bearer {token()}") == "origin\n 200 2", "a token is taken")
    assert get("/tokens").endswith(" 401 2")
    assert get("/portal") == "origin\n 200 2"
    assert get("/text", "--compressed").startswith("a line that repeats itself\n" * 5000)
    for coding in ("gzip", "br"):
        head = net.in_client("curl", "-sS", "-k", "-D", "-", "-o", "/dev/null", "-H", f"Accept-Encoding: {coding}", "--connect-to",
                             "web.example:443:203.0.113.7:443", "https://web.example/text")
        assert f"content-encoding: {coding}" in head.lower(), head
    eventually(lambda: sluice.metric("sluice_redis_up") == 1, "Redis is there")
    # A ban goes up to the keeper.
    for _ in range(4):
        get("/offence", "--interface", "10.71.0.3")
    eventually(lambda: json.loads(sluice.ctl("bans", "--output", "json").stdout)["bans"], "an offender is banned")
    # The names' addresses come to the keeper, which spares them.
    assert "10.72.0.2" in sluice.ctl("ban", "10.72.0.2", check=False).stderr + sluice.ctl("ban", "10.72.0.2", check=False).stdout
    assert "10.72.0.2" not in sluice.ctl("bans", "--output", "json").stdout
    for command in (["status"], ["explain", "https://web.example/tokens", "--from", "10.71.0.2", "--to", "203.0.113.7"], ["upstream", "drain", "named", "10.72.0.2:8443"],
                    ["upstream", "ready", "named"], ["reload"], ["drops"], ["top", "--output", "json", "--once"]):
        sluice.ctl(*command, check=False)
    sluice.write_policy(policy(net.scratch, front, None, authority.cert).replace("workers: 2", "workers: 1"))
    sluice.ctl("reload")
    eventually(lambda: get("/") == "origin\n 200 2", "another gateway serves")
    assert os.path.getsize(os.path.join(net.scratch.path, "access.log")) > 0
    assert sluice.metric("sluice_gateway_refused_system_calls_total") == 0, sluice.output()
    assert "seccomp refused" not in sluice.output(), sluice.output()
