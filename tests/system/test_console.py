"""The console, asked as a browser asks and as an attacker's page would; and drawn by a real browser where there is one."""
import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from harness import HANG, SLUICE, Nginx, Sluice, curl, eventually, free_port

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
    assert status == 403 and "--token-file" in body


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
