"""Applications that call a vendor's own host and are caught on their way: TLS ended by the operator's certificate authority, for listed
hosts alone; and what goes to vendors around the gateway.

    api.openai.com and other.test are 10.72.0.2; 10.72.0.9 has a server that only says so
"""
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess

import pytest

from ai_vendors import OpenAi
from certificates import Authority, openssl
from harness import HANG, SLUICE, Process, Scratch, eventually
from netns import Net, NodeSluice, Thread, run
from test_ai_keys import Keys
from test_ai_sdk import sdks  # noqa: F401, a fixture

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: network namespaces")

HERE = os.path.dirname(os.path.abspath(__file__))
POLICY = """version: 1
state_dir: {scratch}/state
workers: 1
logs: {{ access: {{ path: {scratch}/access.log }} }}
metrics: {{ bind: "127.0.0.1:9464" }}
{intercept}
listeners:
  llm: {{ {listener} }}
routes: [{{ listener: llm, host: api.openai.com, path: /v1, ai: true }}{routes}]
ai:
  providers: {{ openai: {{ key: "file:{scratch}/vendor.key"{provider} }} }}
  identities: [{{ {identity}, key: app }}]
{more}
"""
CATCH = """intercept: { forward: [{ from: [10.71.0.0/24], to: [10.72.0.0/24], ports: [443], listener: llm }] }"""


class World:
    def __init__(self, scratch):
        self.scratch, self.net = scratch, Net(scratch)
        run("ip", "-n", self.net.origin, "addr", "add", "10.72.0.9/24", "dev", "eth0")
        self.public, self.own = Authority(scratch.path, "public"), Authority(scratch.path, "own")
        os.chmod(self.own.key, 0o600)
        pair, liar = self.public.issue("api.openai.com", "other.test"), self.own.issue("api.openai.com", file="liar")
        scratch.write("vendor.key", "vendors-key\n")
        at = lambda host, names: Thread(self.net.origin, lambda: OpenAi(scratch, "openai", key="vendors-key", certificate=names, address=(host, 443)))
        self.vendor = at("10.72.0.2", (pair.cert, pair.key)).result()
        self.liar = at("10.72.0.9", (liar.cert, liar.key)).result()
        dns = Process(scratch, "dnsmasq", self.net.command(
            self.net.origin, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
            "--pid-file=", "--log-facility=-", "--local=/test/", "--local=/openai.com/", "--host-record=api.openai.com,10.72.0.2,1",
            "--host-record=other.test,10.72.0.2,1"))
        eventually(lambda: "started" in dns.output(), "dnsmasq runs")
        resolv = scratch.write("resolv.conf", "nameserver 10.72.0.2\noptions timeout:1 attempts:2\n")
        self.with_dns = ["unshare", "-m", "sh", "-c", f'mount --bind {resolv} /etc/resolv.conf && exec "$@"', "sh"]

    def policy(self, intercept=CATCH, listener=None, routes="", provider="", more="", hosts="[api.openai.com]",
               identity="from: [10.71.0.2, 127.0.0.1]"):
        listener = listener or f"protocol: auto, tls: {{ certificate_authority: {{ cert: {self.own.cert}, key: {self.own.key}, hosts: {hosts} }} }}"
        return POLICY.format(scratch=self.scratch.path, intercept=intercept, listener=listener, routes=routes, provider=provider, more=more, identity=identity)

    def start(self, **policy):
        self.sluice = NodeSluice(self.net, self.policy(**policy), limits=[*self.with_dns, "env", f"SSL_CERT_FILE={self.public.cert}"])
        self.keys = Keys(type("Gateway", (), {"sluice": self.sluice}))
        self.keys.create("app")
        return self.sluice

    def connect(self, name="api.openai.com", address="10.72.0.2", trust=None):
        """A TLS connection of the client's, opened in its namespace."""
        context = ssl.create_default_context(cafile=(trust or self.own).cert)
        return context.wrap_socket(socket.create_connection((address, 443), HANG), server_hostname=name)

    def ask(self, path="/v1/chat/completions", key="sk-real", host="api.openai.com", fields=None, **where):
        """(status, fields in lower case, body) of a client that knows of no gateway."""
        def body():
            connection = http.client.HTTPSConnection(host, timeout=HANG)
            connection.sock = self.connect(**where)
            chat = json.dumps({"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}]})
            connection.request("POST", path, chat, {"content-type": "application/json", "authorization": f"Bearer {key}", **(fields or {})})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        return self.net.as_client(body).result()

    def leaf(self, **where):
        """The certificate that a client is shown, in PEM."""
        def body():
            with self.connect(**where) as connection:
                return ssl.DER_cert_to_PEM_cert(connection.getpeercert(True))
        return self.net.as_client(body).result()

    def known(self):
        eventually(lambda: self.ask()[0] == 200, "the key is known")


@pytest.fixture
def world():
    with Scratch() as scratch:
        yield World(scratch)


def test_an_sdk_that_knows_of_no_gateway_is_served_by_it(world, sdks):  # noqa: F811
    sluice = world.start()
    world.known()
    done = subprocess.run(world.net.command(world.net.client, *world.with_dns, "env", f"NODE_SDKS={sdks}", f"NODE_EXTRA_CA_CERTS={world.own.cert}",
                                            "node", os.path.join(HERE, "ai_sdk", "caught.mjs"), "sk-real", "gpt-x"),
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["provider"] == "openai" and "Hello from openai" in said["text"] and "Hello from openai" in said["streamed"]
    assert {call["headers"]["authorization"] for call in world.vendor.calls} == {"Bearer vendors-key"}
    assert "sk-real" not in json.dumps([call["headers"] for call in world.vendor.calls])
    assert sluice.metric("sluice_gateway_refused_system_calls_total") == 0, sluice.output()


def test_listed_hosts_alone_are_decrypted_and_the_rest_goes_where_it_was_going_by_tls(world):
    world.start()
    world.known()
    status, fields, _ = world.ask("/dashboard")  # no path of the route's: to the original destination
    assert status == 401 and "x-sluice-provider" not in fields and fields["x-request-id"] == "req-openai"
    assert world.vendor.calls[-1]["path"] == "/dashboard" and world.vendor.calls[-1]["headers"]["authorization"] == "Bearer sk-real"
    # Whoever answers there has to be who was called.
    assert world.ask("/dashboard", address="10.72.0.9")[0] == 502
    assert not world.liar.calls
    # Other names pass, with the certificate of who is there.
    assert world.ask("/dashboard", name="other.test", host="other.test", trust=world.public)[0] == 401
    assert world.vendor.calls[-1]["headers"]["host"] == "other.test"
    with pytest.raises(ssl.SSLCertVerificationError):
        world.ask(name="other.test", host="other.test")
    # A name proves nothing about an address, and models need none: the provider is the policy's.
    assert world.ask(address="10.72.0.9")[0] == 200 and not world.liar.calls
    assert world.net.in_client("curl", "-sS", "--max-time", "20", "--http2", "--cacert", world.own.cert, "--resolve",
                               "api.openai.com:443:10.72.0.2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}",
                               "https://api.openai.com/v1/models") == "2 200"


def test_strict_names_have_to_be_of_the_address(world):
    listener = world.policy().split("llm: { ")[1].split(" }\nroutes")[0]
    world.start(listener=listener + ", verify_authority: strict")
    world.known()
    assert world.ask(address="10.72.0.9")[0] == 421


def test_leaves_are_kept_short_lived_and_follow_the_authority(world):
    sluice = world.start(hosts='[api.openai.com, "*.eu.openai.com"]')
    first = world.leaf()
    assert world.leaf() == first, "one for each host"
    path = world.scratch.write("leaf.pem", first)
    text = openssl("x509", "-in", path, "-noout", "-text")
    assert "Issuer: CN = own" in text and "DNS:api.openai.com" in text and "CA:FALSE" in text and "TLS Web Server Authentication" in text
    assert "prime256v1" in text
    openssl("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "api.openai.com", "-CAfile", world.own.cert, path)
    assert subprocess.run(["openssl", "x509", "-in", path, "-noout", "-checkend", str(12 * 3600)], capture_output=True).returncode == 0
    assert subprocess.run(["openssl", "x509", "-in", path, "-noout", "-checkend", str(24 * 3600 + 60)], capture_output=True).returncode == 1
    wild = world.scratch.write("wild.pem", world.leaf(name="a.eu.openai.com"))
    assert "DNS:*.eu.openai.com" in openssl("x509", "-in", wild, "-noout", "-text")
    assert world.leaf(name="b.eu.openai.com") == open(wild).read()
    # Another authority, in the same files: without a reload, and without a broken connection.
    other = Authority(world.scratch.path, "other")
    os.chmod(other.key, 0o644)
    shutil.copy(other.cert, world.own.cert)
    shutil.move(other.key, world.own.key)
    eventually(lambda: "open to others: chmod 600" in sluice.output(), "a key that others can read is not taken")
    assert "Issuer: CN = own" in leaf_of(world, first), "the old one stays in use"
    os.chmod(world.own.key, 0o600)
    eventually(lambda: "Issuer: CN = other" in leaf_of(world, first), "the new one is used")


def leaf_of(world, first):
    """What is shown now, whoever signed it."""
    def body():
        context = ssl._create_unverified_context()
        with context.wrap_socket(socket.create_connection(("10.72.0.2", 443), HANG), server_hostname="api.openai.com") as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(True))
    return openssl("x509", "-in", world.scratch.write("now.pem", world.net.as_client(body).result()), "-noout", "-text")


def test_a_callers_own_key_goes_to_whom_it_was_meant_for_alone(world):
    world.start(provider=", caller_key: pass")
    world.vendor.key = "sk-real"
    world.known()
    assert world.vendor.calls[-1]["headers"]["authorization"] == "Bearer sk-real"
    status, _, body = world.ask(key="sk-wrong")
    assert status == 401 and b"invalid api key" in body, "the vendor's answer is the caller's to have"
    world.vendor.key = "vendors-key"
    virtual = world.keys.create("own")
    eventually(lambda: world.ask(key=virtual)[0] == 200, "a virtual key is replaced")
    assert world.vendor.calls[-1]["headers"]["authorization"] == "Bearer vendors-key"
    assert world.ask(key="sk-sluice-forgotten")[0] == 200
    assert "sk-sluice" not in json.dumps([call["headers"] for call in world.vendor.calls])


def test_whose_account_it_is_on_goes_with_the_callers_own_key_alone(world):
    world.start(provider=", caller_key: pass")
    world.vendor.key = "sk-real"
    world.known()
    account = {"OpenAI-Organization": "org-caller", "openai-project": "p"}
    assert world.ask(fields=account)[0] == 200
    sent = world.vendor.calls[-1]["headers"]
    assert (sent["openai-organization"], sent["openai-project"]) == ("org-caller", "p")
    world.vendor.key = "vendors-key"
    virtual = world.keys.create("own")
    eventually(lambda: world.ask(key=virtual, fields=account)[0] == 200, "a virtual key is replaced")
    assert not {"openai-organization", "openai-project"} & set(world.vendor.calls[-1]["headers"])


def test_an_answer_to_a_callers_own_key_is_nobody_elses(world):
    world.start(provider=", caller_key: pass", more="  cache: { ttl: 1h }")
    world.vendor.key = "sk-real"
    world.known()
    for _ in range(2):
        status, fields, _ = world.ask()
        assert status == 200 and "x-sluice-cache" not in fields
    status, _, body = world.ask(key="sk-wrong")
    assert status == 401 and b"invalid api key" in body
    # Who shows nothing of theirs is asked for with the gateway's key, and those answers are kept.
    world.vendor.key = "vendors-key"
    results = [world.ask(key="sk-sluice-forgotten")[1]["x-sluice-cache"] for _ in range(2)]
    assert results == ["miss", "hit"]
    assert world.ask(key="sk-wrong")[0] == 401


def test_a_key_that_others_can_read_is_an_error_with_its_line(world):
    os.chmod(world.own.key, 0o640)
    policy = world.scratch.write("check.yaml", world.policy())
    done = subprocess.run([SLUICE, "check", "--policy", policy], capture_output=True, text=True, env={**os.environ, "SSL_CERT_FILE": world.public.cert})
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "check.yaml:8:" in said and f"{world.own.key}: is the key of a certificate authority and open to others: chmod 600" in said
    os.chmod(world.own.key, 0o600)
    leaf = world.public.issue("api.openai.com", file="no-authority")
    os.chmod(leaf.key, 0o600)
    policy = world.scratch.write("leaf.yaml", world.policy().replace(world.own.cert, leaf.cert).replace(world.own.key, leaf.key))
    done = subprocess.run([SLUICE, "check", "--policy", policy], capture_output=True, text=True, env={**os.environ, "SSL_CERT_FILE": world.public.cert})
    assert done.returncode != 0 and "is not the certificate of an authority" in done.stdout + done.stderr


def bypass(world, action, **policy):
    return world.policy(intercept="", listener='bind: "127.0.0.1:8080"', more=f"  bypass: {{ action: {action}, hosts: [other.test] }}", **policy)


def unmetered(sluice, result):
    page = sluice.net.in_node("curl", "-sS", "--max-time", "5", "http://127.0.0.1:9464/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
               if line.startswith("sluice_ai_unmetered_bytes_total{") and f'result="{result}"' in line)


def test_what_goes_around_the_gateway_is_counted_and_can_be_refused(world):
    straight = dict(trust=world.public)
    world.sluice = sluice = NodeSluice(world.net, bypass(world, "count"), limits=[*world.with_dns, "env", f"SSL_CERT_FILE={world.public.cert}"])
    Keys(type("Gateway", (), {"sluice": sluice})).create("app")
    eventually(lambda: sluice.metric("sluice_ai_vendor_addresses") == 1, "both names are one address, and known")
    through = ("curl", "-sS", "-f", "--max-time", "20", "-d", '{"model": "gpt-x", "messages": [{"role": "user", "content": "Hi"}]}',
               "-H", "host: api.openai.com", "-H", "content-type: application/json", "http://127.0.0.1:8080/v1/chat/completions")
    eventually(lambda: world.net.in_node(*through), "the gateway serves")
    assert unmetered(sluice, "passed") == 0, "what goes through the gateway is metered"
    assert world.ask("/v1/chat/completions", key="vendors-key", **straight)[0] == 200
    eventually(lambda: unmetered(sluice, "passed") > 500, "what the keeper has counted comes each second")
    passed = unmetered(sluice, "passed")
    assert unmetered(sluice, "rejected") == 0
    world.net.in_node("curl", "-sS", "-k", "--max-time", "10", "https://10.72.0.2/", check=False)
    eventually(lambda: unmetered(sluice, "passed") > passed, "the node's own programs are counted as well")
    packet = ("explain", "--from", "10.71.0.2", "--to", "10.72.0.2", "--port", "443")
    assert "counted in sluice_ai_unmetered_bytes_total: a vendor's address" in sluice.ctl(*packet).stdout
    # What is open when it is forbidden goes on.
    kept = world.net.as_client(lambda: world.connect(**straight)).result()
    sluice.write_policy(bypass(world, "reject"))
    sluice.ctl("reload")
    assert unmetered(sluice, "passed") > passed, "a reload forgets nothing"
    with pytest.raises(ConnectionRefusedError):
        world.ask(key="vendors-key", **straight)
    eventually(lambda: unmetered(sluice, "rejected") > 0, "the refusal is counted")
    assert "refused, and counted" in sluice.ctl(*packet, check=False).stdout
    kept.sendall(b"GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer vendors-key\r\n\r\n")
    assert kept.recv(65536).startswith(b"HTTP/1.1 200")
    kept.close()
    assert world.net.in_node(*through), "the gateway's own connections are made"
    assert world.net.in_client("ping", "-c", "1", "-W", "5", "10.72.0.2")
    # Somebody removes the table; the next tick puts it back.
    world.net.in_node("nft", "delete", "table", "inet", "sluice_vendors")
    eventually(lambda: "sluice_vendors" in world.net.in_node("nft", "list", "tables"), "it is back")
    # What is protected is never refused.
    sluice.write_policy(bypass(world, "reject") + "protect: { from: [10.71.0.0/24] }\n")
    sluice.ctl("reload")
    assert world.ask(key="vendors-key", **straight)[0] == 200
    sluice.stop()
    assert "sluice_vendors" not in world.net.in_node("nft", "list", "tables"), "a clean stop takes it away"


@pytest.fixture(name="cgroup")
def made_cgroup():
    """A cgroup of the test's own, as the policy names it, and what a shell says to be of it."""
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        mount = next(line.split()[4] for line in mounts if " - cgroup2 " in line)
    name = f"/sluice-test-{os.getpid()}"
    os.mkdir(mount + name)
    yield name, f"echo $$ > {mount}{name}/cgroup.procs; "
    eventually(lambda: not open(f"{mount}{name}/cgroup.procs", encoding="ascii").read(), "nobody is of it any more")
    os.rmdir(mount + name)


def test_a_process_of_the_node_is_known_by_its_cgroup(world, cgroup):
    name, join = cgroup
    sluice = world.start(identity=f"cgroups: [{name}]", intercept=f"""intercept:
  output: [{{ cgroups: [{name}], to: [10.72.0.0/24], ports: [443], listener: llm }}]""")

    def call(before="", at="10.72.0.2", port=443, trust=world.own):
        """The status that a process of the node gets which shows no virtual key; 0: none."""
        curl = (f"exec curl -s -o /dev/null -w '%{{http_code}}' --max-time 10 --cacert {trust.cert} --resolve api.openai.com:{port}:{at} "
                f"-H 'authorization: Bearer sk-real' -H 'content-type: application/json' "
                f"-d '{json.dumps({'model': 'gpt-x', 'messages': [{'role': 'user', 'content': 'Hi'}]})}' "
                f"https://api.openai.com:{port}/v1/chat/completions")
        return int(world.net.in_node("sh", "-c", before + curl, check=False))

    eventually(lambda: call(join) == 200, "the key is known")
    assert call(trust=world.public) == 401, "nobody else is caught: the vendor itself does not know the caller's key"
    # Whoever calls the listener's own sockets is not of the cgroup, whichever way in they are for.
    listening = world.net.in_node("ss", "-Hltnp").splitlines()
    ports = {int(line.split()[3].rsplit(":", 1)[1]) for line in listening if "sluice" in line} - {9464}
    assert ports
    for at in ("127.0.0.1", "10.72.0.1"):
        assert {call(at=at, port=port) for port in ports} <= {0, 401}
    calls = len(world.vendor.calls)
    assert call(join) == 200 and len(world.vendor.calls) == calls + 1, "and it goes on"
    assert sluice.metric("sluice_gateway_refused_system_calls_total") == 0, sluice.output()
