"""The console, asked as a browser asks and as an attacker's page would; and drawn by a real browser where there is one."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from ai_client import CALLERS, Gateway
from browser import Browser
from harness import HANG, SLUICE, Nginx, Sluice, curl, eventually, free_port
from netns import Net, NodeSluice
from test_tls_keeper import Inside, Kept

TOKEN = "0123456789abcdef-of-a-test"


class Console:
    def __init__(self, scratch, sluice, *options):
        self.port = free_port()
        self.process = subprocess.Popen([SLUICE, "console", "--bind", f"127.0.0.1:{self.port}", "--socket", sluice.socket, *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        scratch.closers.append(self.stop)
        assert self.process.stdout.readline() == f"http://127.0.0.1:{self.port}/ (Ctrl-C ends it)\n"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG)

    def ask(self, path, *options):
        """(status, answer, head)"""
        code, body, head = curl(*options, f"http://127.0.0.1:{self.port}{path}")
        assert code == 0
        return int(re.match(r"HTTP/1.1 (\d+)", head).group(1)), body.decode(), head

    def post(self, path, question, *options):
        return self.ask(path, "-H", "Content-Type: application/json", "-d", json.dumps(question), *options)


@pytest.fixture
def sluice(scratch):
    origin, port = Nginx(scratch), free_port()
    sluice = Sluice(scratch, f"""
version: 1
state_dir: {scratch.path}/state
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{origin.port}"] }} }}
routes: [{{ name: everything, listener: web, upstream: api }}]
""")
    sluice.port = port
    return sluice


def some_requests(sluice, count=5):
    for _ in range(count):
        code, body, _ = curl(f"http://127.0.0.1:{sluice.port}/")
        assert code == 0 and body.startswith(b"origin ")


def token_file(scratch, text=TOKEN, mode=0o600):
    path = scratch.write("token", text + "\n")
    os.chmod(path, mode)
    return path


def test_it_shows_what_goes_through(scratch, sluice):
    console = Console(scratch, sluice)
    some_requests(sluice)
    status, page, head = console.ask("/")
    assert status == 200 and page.startswith("<!doctype html>") and "@NONCE@" not in page
    nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", head).group(1)
    assert page.count(f'nonce="{nonce}"') == 2 and "http://" not in page.replace("http://www.w3.org", "").replace("http://api.example", "")
    assert nonce not in console.ask("/")[1]  # another one each time
    state = json.loads(console.ask("/api/state")[1])
    assert state["status"]["upstreams"][0]["endpoints"][0]["healthy"] is True
    route = state["routes"]["routes"][0]
    assert (route["name"], route["upstreams"], route["requests"], route["errors"]) == ("everything", ["api"], 5, 0)
    assert state["bans"]["bans"] == []
    answer = json.loads(console.post("/api/explain", {"method": "GET", "url": "http://x.example/a", "listener": "web"})[1])
    assert answer["passes"] and any(step["phase"] == "route" for step in answer["steps"])


def test_it_shows_what_language_models_took(scratch):
    gateway = Gateway(scratch, ("openai",))
    assert CALLERS["openai"](gateway).call("m")[0] == 200
    console = Console(scratch, gateway.sluice)
    state = lambda: json.loads(console.ask("/api/state")[1])["status"]["language_models"]
    assert eventually(lambda: state()["today"], "it is counted")[0]["model"] == "m" and state()["providers"][0]["requests"] == 1
    assert 'id="models"' in console.ask("/")[1]


@pytest.mark.parametrize("options, status", [
    (["-H", "Host: evil.example"], 421),                      # DNS rebinding
    (["-H", "Host: localhost"], 200),
    (["-H", "Host: [::1]:9901"], 200),
    (["-H", "Host: sluice.internal"], 200),                   # named by --hosts
    (["-H", "Origin: http://evil.example"], 403),
    (["-H", "Sec-Fetch-Site: cross-site"], 403),
    (["-H", "Sec-Fetch-Site: same-origin"], 200),
    (["-X", "POST", "-H", "Content-Type: text/plain", "-d", "{}"], 415),
    (["-X", "DELETE"], 405),
])
def test_pages_of_others_learn_nothing(scratch, sluice, options, status):
    console = Console(scratch, sluice, "--hosts", "sluice.internal")
    assert console.ask("/api/state", *options)[0] == status


def test_a_change_needs_the_token(scratch, sluice):
    console = Console(scratch, sluice, "--token-file", token_file(scratch))
    assert console.post("/api/reload", {})[0] == 401
    assert console.post("/api/reload", {}, "-H", f"Authorization: Bearer {TOKEN}x")[0] == 401
    status, body, _ = console.post("/api/reload", {}, "-H", f"Authorization: Bearer {TOKEN}")
    assert status == 200 and json.loads(body)["ok"] is True
    # What goes on the admin socket is what the path says, not what the body asks for.
    status, body, _ = console.post("/api/reload", {"command": "drain"}, "-H", f"Authorization: Bearer {TOKEN}")
    assert json.loads(body)["ok"] is True and sluice.process.poll() is None
    assert console.stop() == 0


def test_without_a_token_nothing_changes(scratch, sluice):
    console = Console(scratch, sluice)
    status, body, _ = console.post("/api/reload", {}, "-H", "Authorization: Bearer anything-at-all-here")
    assert status == 403 and "--token-file" in body and "admin.token)" in body


@pytest.mark.parametrize("text, mode, error", [
    (TOKEN, 0o644, "others may read it; chmod 600 it"),
    ("short", 0o600, "a token has 16 to 512 characters"),
])
def test_a_bad_token_file_is_refused(scratch, sluice, text, mode, error):
    done = subprocess.run([SLUICE, "console", "--token-file", token_file(scratch, text, mode), "--socket", sluice.socket],
                          capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 1 and error in done.stderr and text not in done.stderr


def test_it_outlives_sluice_and_says_that_it_is_gone(scratch, sluice):
    console = Console(scratch, sluice)
    assert console.ask("/api/state")[0] == 200
    sluice.stop()
    status, body, _ = console.ask("/api/state")
    assert status == 400 and "no sluice answers" in json.loads(body)["error"]
    assert console.ask("/")[0] == 200


def test_it_holds_no_privilege(scratch, sluice):
    console = Console(scratch, sluice)
    with open(f"/proc/{console.process.pid}/status") as status:
        text = status.read()
    assert re.search(r"CapEff:\s+0{16}\n", text) and re.search(r"CapPrm:\s+0{16}\n", text) and "NoNewPrivs:\t1" in text


def test_a_token_that_was_changed_counts_at_once(scratch, sluice):
    console = Console(scratch, sluice, "--token-file", token_file(scratch))
    token_file(scratch, "another-token-of-a-test")
    assert console.post("/api/reload", {}, "-H", f"Authorization: Bearer {TOKEN}")[0] == 401
    assert console.post("/api/reload", {}, "-H", "Authorization: Bearer another-token-of-a-test")[0] == 200
    token_file(scratch, mode=0o644)
    status, body, _ = console.post("/api/reload", {}, "-H", f"Authorization: Bearer {TOKEN}")
    assert status == 403 and "others may read it" in body and TOKEN not in body


def test_it_answers_only_to_whom_it_is_told(scratch, sluice):
    assert Console(scratch, sluice, "--allow", "127.0.0.0/8,10.0.0.0/8").ask("/api/state")[0] == 200
    console = Console(scratch, sluice, "--allow", "10.0.0.0/8")
    assert console.ask("/api/state")[0] == 403 and console.ask("/")[0] == 403


# --- beside `sluice run`, by the policy ------------------------------------------------------------------------------------


class OfPolicy(Console):
    """The console that a policy's `admin` starts."""

    def __init__(self, sluice, port):
        self.port, self.sluice = port, sluice

    def served(self, path="/api/state"):
        return eventually(lambda: self.ask(path), "the console answers")

    def pid(self):
        return eventually(lambda: self.sluice.status()["console"].get("pid"), "the console runs")


def with_admin(scratch, admin, port, metrics=0):
    return f"""
version: 1
state_dir: {scratch.path}/state
admin: {admin}
{f'metrics: {{ bind: "127.0.0.1:{metrics}" }}' if metrics else ""}
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:1"] }} }}
routes: [{{ listener: web, upstream: api }}]
"""


def test_the_policy_starts_it(scratch):
    port, admin = free_port(), free_port()
    token = token_file(scratch)
    sluice = Sluice(scratch, with_admin(scratch, f'{{ bind: "127.0.0.1:{admin}", token: "file:{token}", hosts: [console.internal] }}', port))
    console = OfPolicy(sluice, admin)
    state = json.loads(console.served()[1])
    assert state["status"]["console"] == {"url": f"http://127.0.0.1:{admin}/", "changes": True, "restarts": 0, "pid": console.pid()}
    assert f"console http://127.0.0.1:{admin}/\n" in sluice.ctl("status").stdout
    assert console.ask("/")[0] == 200 and console.ask("/api/state", "-H", "Host: console.internal")[0] == 200
    assert console.post("/api/reload", {})[0] == 401
    assert console.post("/api/reload", {}, "-H", f"Authorization: Bearer {TOKEN}")[0] == 200
    with open(f"/proc/{console.pid()}/status") as status:
        assert re.search(r"CapEff:\s+0{16}\n", status.read())
    pid = console.pid()
    assert sluice.stop() == 0
    assert not os.path.exists(f"/proc/{pid}") and curl(f"http://127.0.0.1:{admin}/")[0] == 7  # refused


def test_an_open_address_is_warned_of(scratch):
    def said(admin):
        path = scratch.write("open.yaml", f"version: 1\nadmin: {admin}\n")
        done = subprocess.run([SLUICE, "check", path], capture_output=True, text=True, timeout=HANG, check=False)
        assert done.returncode == 0
        return done.stdout + done.stderr
    assert "2:1: warning: whoever reaches admin.bind 0.0.0.0:9901 may look (name them by `allow`, or bind 127.0.0.1)" in said('{ bind: "0.0.0.0:9901" }')
    assert "warning" not in said('{ bind: "0.0.0.0:9901", allow: [10.0.0.0/8] }') and "warning" not in said("{}")


def test_a_reload_moves_it_and_leaves_it_alone_otherwise(scratch):
    port, first, second = free_port(), free_port(), free_port()
    sluice = Sluice(scratch, with_admin(scratch, f'{{ bind: "127.0.0.1:{first}" }}', port))
    old, new = OfPolicy(sluice, first), OfPolicy(sluice, second)
    old.served()
    pid = old.pid()

    def reload(policy, check=True):
        sluice.write_policy(policy)
        return sluice.ctl("reload", check=check)

    reload(with_admin(scratch, f'{{ bind: "127.0.0.1:{first}" }}', port) + "limits: { some: { rate: 10/s } }\n")
    assert old.pid() == pid
    # Who may ask has changed: another process on the same socket.
    reload(with_admin(scratch, f'{{ bind: "127.0.0.1:{first}", allow: [10.0.0.0/8] }}', port))
    assert eventually(lambda: old.ask("/api/state")[0] == 403, "allow counts") and old.pid() != pid
    # Elsewhere.
    reload(with_admin(scratch, f'{{ bind: "127.0.0.1:{second}" }}', port))
    new.served()
    assert curl(f"http://127.0.0.1:{first}/")[0] == 7
    # An address that somebody else has refuses the policy, and the console stays where it is.
    with socket.create_server(("127.0.0.1", first)):
        done = reload(with_admin(scratch, f'{{ bind: "127.0.0.1:{first}" }}', port), check=False)
        assert done.returncode == 1 and f"admin.bind 127.0.0.1:{first}: bind: Address already in use" in done.stdout + done.stderr
        assert new.ask("/api/state")[0] == 200
    # A token that others may read refuses it too.
    path = token_file(scratch, mode=0o644)
    done = reload(with_admin(scratch, f'{{ bind: "127.0.0.1:{second}", token: "file:{path}" }}', port), check=False)
    assert done.returncode == 1 and f"admin.token {path}: others may read it; chmod 600 it" in done.stdout + done.stderr
    # And away.
    reload(re.sub("admin: .*", "", with_admin(scratch, "x", port)))
    assert curl(f"http://127.0.0.1:{second}/")[0] == 7 and sluice.status()["console"] is None


def test_one_that_ends_is_followed_by_the_next(scratch):
    port, admin, metrics = free_port(), free_port(), free_port()
    sluice = Sluice(scratch, with_admin(scratch, f'{{ bind: "127.0.0.1:{admin}" }}', port, metrics))
    console = OfPolicy(sluice, admin)
    console.served()
    first = console.pid()
    os.kill(first, signal.SIGKILL)
    # Its socket is still there: whoever asks meanwhile waits, and is answered.
    assert console.ask("/api/state")[0] == 200 and console.pid() != first
    assert "console: ended; the next one starts how=\"signal 9\"" in sluice.output()
    assert "sluice_console_restarts_total 1" in curl(f"http://127.0.0.1:{metrics}/metrics")[1].decode()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: a network namespace of its own")
def test_it_is_there_after_an_upgrade_of_the_keeper(scratch):
    inside = Inside(scratch)
    sluice = Kept(scratch, inside, """version: 1
state_dir: @/state
admin: { bind: "127.0.0.1:9901" }
guard: { interfaces: [lo], rules: [{ name: nobody, from: [192.0.2.1], action: count }] }
listeners: { web: { bind: "127.0.0.1:8443" } }
upstreams: { none: { endpoints: ["127.0.0.1:1"] } }
routes: [{ listener: web, upstream: none }]
""".replace("@", scratch.path))

    def shows():
        done = inside.run("curl", "-sS", "--max-time", str(HANG), "http://127.0.0.1:9901/api/state")
        return json.loads(done.stdout)["status"]["console"]["pid"]

    first = eventually(shows, "the console answers")
    sluice.ctl("upgrade", "--binary", SLUICE)
    eventually(lambda: sluice.status()["upgrade"]["state"] == "done", "the upgrade")
    second = eventually(shows, "the next program's console answers")
    assert second != first and not os.path.exists(f"/proc/{first}")
    children = subprocess.run(["ps", "--ppid", str(sluice.pid), "-o", "stat="], capture_output=True, text=True, check=False).stdout
    assert "Z" not in children, "what the first program started was not waited for"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="the nightly tests install a browser")
def test_a_browser_draws_it(scratch, sluice):
    console = Console(scratch, sluice)
    some_requests(sluice)

    def drawn():
        done = subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={scratch.path}/browser",
                               "--virtual-time-budget=6000", "--dump-dom", f"http://127.0.0.1:{console.port}/"],
                              capture_output=True, text=True, timeout=3 * HANG, check=False)
        return done.stdout if "everything" in done.stdout else None
    page = eventually(drawn, "the page shows the route", 3 * HANG)
    flow = page[page.index('id="flow"'):page.index("Endpoints")]
    assert all(text in flow for text in ("bound address", "web", "everything", "api", "1 of 1 healthy"))
    assert ">Not live" not in page and ">healthy<" in page


NODE = """
version: 1
state_dir: @STATE@
workers: 2
intercept:
  local: [{ to: [203.0.113.0/24], ports: [80, 8000-8099], listener: web }]
  forward: [{ from: [10.71.0.0/24], to: [10.72.0.0/16], ports: [8080], listener: passing, on_exit: bypass }]
listeners: { web: { protocol: http }, passing: { protocol: auto } }
upstreams:
  shop: { endpoints: ["10.72.0.2:8080", { address: "10.72.0.3:8080", weight: 2 }], health_check: { http: /, interval: 500ms, timeout: 400ms } }
  search: { endpoints: ["10.72.0.2:8080"] }
  onwards: { endpoints: original_destination }
limits: { per-client: { key: [client_ip], rate: 100/s, burst: 200 } }
routes:
  - { name: shop, listener: web, upstream: shop, limits: [per-client] }
  - { name: search, listener: web, path: /search, upstream: search }
  - { name: passing, listener: passing, upstream: onwards }
default_route: { local: 404, forward: onwards }
bans: { rules: [{ when: { limit: per-client, count: 1000, within: 10s }, for: 5m }] }
guard:
  interfaces: [lan0]
  monitor: [source]
  rules:
    - { name: no-telnet, protocol: tcp, to_ports: [23], action: drop }
    - { name: partners, from: [10.71.0.0/24], action: count }
"""


@pytest.fixture
def node(scratch):
    """A gateway with traffic, its console in a browser."""
    net = Net(scratch)
    net.nginx()
    sluice = NodeSluice(net, NODE.replace("@STATE@", f"{scratch.path}/state"), name="sluice")
    sluice.ctl("ban", "198.51.100.0/24", "--for", "1h", "--reason", "scans us")
    sluice.ctl("ban", "2001:db8:bad::/48", "--for", "20m")
    token = token_file(scratch)
    console = subprocess.Popen(net.command(net.node, SLUICE, "console", "--socket", sluice.socket, "--token-file", token), stdout=subprocess.PIPE)
    scratch.closers.append(lambda: (console.terminate(), console.wait(HANG)))
    assert b"http://" in console.stdout.readline()
    done = threading.Event()

    def visit():
        while not done.is_set():
            for _ in range(3):
                net.curl("http://203.0.113.7/")
            for url in ("http://203.0.113.9:8001/search?q=a", "http://10.72.0.2:8080/"):
                net.curl(url)
            time.sleep(0.05)
    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    scratch.closers.append(lambda: (done.set(), visitor.join(HANG)))
    net.sluice = sluice
    return net


def show(node, browser, scheme="light"):
    browser.open("http://127.0.0.1:9901/", scheme)
    eventually(lambda: browser.run("document.querySelectorAll('#flow path').length") > 0, "the picture", 3 * HANG)
    # A rate comes with the second look.
    eventually(lambda: re.search(r"[1-9][\d.]*/s", browser.run("document.getElementById('flow').textContent")), "rates", 3 * HANG)


needs_browser = pytest.mark.skipif(os.getuid() != 0 or shutil.which("chromium") is None, reason="needs root, and the browser of the nightly tests")


@needs_browser
def test_light_and_dark_and_by_keyboard(scratch, node):
    browser = Browser(scratch, node.command(node.node))
    grounds = set()
    for scheme in ("light", "dark"):
        show(node, browser, scheme)
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        # Text stands out from what is behind it (WCAG 2.2, 1.4.3): 4.5 to 1, in each colour that is used for words.
        low = browser.run("""(() => {
          const light = colour => { const [r, g, b] = colour.match(/\\d+/g).map(v => (v /= 255, v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
            return .2126 * r + .7152 * g + .0722 * b; };
          const ground = node => { while (node) { const c = getComputedStyle(node).backgroundColor; if (!c.startsWith('rgba')) return c; node = node.parentElement; } };
          return [...document.querySelectorAll('h1, h2, .soft, .good, .bad, .warn, td, th, button, label, input')].filter(node => node.textContent.trim()).map(node => {
            const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
            return [(a + .05) / (b + .05), node.className + ' ' + node.textContent.slice(0, 20)]; }).filter(([ratio]) => ratio < 4.5);
        })()""")
        assert low == [], (scheme, low)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"
        if os.environ.get("SLUICE_SCREENSHOTS"):
            browser.run("document.activeElement.blur(); document.querySelector('[name=from]').value = '198.51.100.8';"
                        "document.querySelector('[name=to]').value = '203.0.113.7'; document.querySelector('[name=to_port]').value = '80';"
                        "document.querySelector('[name=url]').value = 'http://shop.example/search'; document.querySelector('#explain button').click()")
            eventually(lambda: browser.run("document.querySelectorAll('#answer .step').length"), "explain answers")
            browser.screenshot(f"{os.environ['SLUICE_SCREENSHOTS']}/console-{scheme}.png")
    assert len(grounds) == 2
    # By keyboard alone: the token, then the first button that lifts a ban.
    browser.run("document.getElementById('token').focus()")
    browser.type(TOKEN)
    browser.run("document.querySelector('#bans').focus()")
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.getAttribute('aria-label')") == "Unban 198.51.100.0/24"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", "where one is can be seen"
    browser.press("Enter", 13)
    eventually(lambda: "198.51.100.0/24 is not banned any more." in browser.run("document.getElementById('done').textContent"), "lifted")
    assert "198.51.100.0/24" not in node.sluice.ctl("bans").stdout
