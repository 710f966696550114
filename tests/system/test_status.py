"""What `sluice status` and its probe say when not all is as one would have it."""
import socket

import pytest

from harness import HANG, Sluice, eventually, free_port
from test_sets import in_namespace


@pytest.fixture(scope="module", autouse=True)
def namespace():
    in_namespace()


@pytest.mark.parametrize("kernel", ["", "guard: { interfaces: [none], rules: [{ name: nobody, from: [192.0.2.1], action: drop }] }"])
def test_who_drains_is_not_ready_and_says_why(scratch, kernel):
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as origin:
        sluice = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
workers: 1
listeners: {{ raw: {{ bind: "127.0.0.1:{port}", protocol: tcp, timeouts: {{ drain: 30s }} }} }}
upstreams: {{ far: {{ endpoints: ["127.0.0.1:{origin.getsockname()[1]}"] }} }}
routes: [{{ listener: raw, upstream: far }}]
{kernel}
""")
        sluice.ctl("status", "--ready")
        with socket.create_connection(("127.0.0.1", port), timeout=HANG) as client:
            client.sendall(b"open\n")
            peer = origin.accept()[0]
            assert peer.recv(16) == b"open\n"
            sluice.ctl("drain", "--no-wait")
            refused = sluice.ctl("status", "--ready", check=False)
            assert refused.returncode == 1 and "sluice drains" in refused.stderr, refused.stderr
            assert "DRAINS: " in sluice.ctl("status").stdout
            peer.sendall(b"still\n")
            assert client.recv(16) == b"still\n"
            peer.close()
        eventually(lambda: sluice.process.poll() == 0, f"it ends when the last one has ended:\n{sluice.output()}")
