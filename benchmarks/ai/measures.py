"""What is measured of one gateway in one round. Each returns {figure: value}; a call that failed is an error, for who refuses work
must not look cheap."""
import json
import resource
import selectors
import socket
import subprocess
import time

PATIENCE = 60  # seconds for all streams' first words; for one load beyond its time


def body(model, stream):
    wanted = {"model": model, "messages": [{"role": "user", "content": "Say something of a hundred words about gateways, please."}]}
    return json.dumps({**wanted, "stream": True} if stream else wanted, separators=(",", ":"))


def load(program, gateway, connections, requests, seconds, text):
    command = [program, *map(str, (gateway.port, connections, requests, seconds)), text, *gateway.headers]
    seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + PATIENCE).stdout)
    if seen["errors"] or not seen["requests"]:
        raise RuntimeError(f"{gateway.name}: {seen['errors']} of {seen['requests']} requests failed")
    return seen


def cpu_of(gateway, run, unit):
    """CPU time in µs per unit, which is a figure of what `run` returns."""
    user, system = gateway.cpu()
    seen = run()
    user_after, system_after = gateway.cpu()
    units = seen[unit]
    return seen, {"user": (user_after - user) * 1e6 / units, "system": (system_after - system) * 1e6 / units,
                  "cpu": (user_after - user + system_after - system) * 1e6 / units}


def request(program, gateway, seconds):
    """One caller, one request after the other, answered at once and whole."""
    seen = load(program, gateway, 1, 1_000_000, seconds, body("bench-1-0", False))
    return {"p50": seen["last"]["p50"], "p99": seen["last"]["p99"], "requests": seen["requests"]}


def first_token(program, gateway, seconds):
    """One caller, one stream of 16 words after the other. The vendor sends the first one at once."""
    seen = load(program, gateway, 1, 1_000_000, seconds, body("bench-16-2", True))
    return {"p50": seen["first"]["p50"], "p99": seen["first"]["p99"], "requests": seen["requests"]}


def requests(program, gateway, seconds):
    """16 callers, each with one request after the other."""
    text = body("bench-1-0", False)
    seen, cost = cpu_of(gateway, lambda: load(program, gateway, 16, 1_000_000_000, seconds, text), "requests")
    return {**cost, "p50": seen["last"]["p50"], "p99": seen["last"]["p99"], "per_second": seen["requests"] / seconds}


def words(program, gateway, streams):
    """So many streams at a time, 64 in all, of 100 words 20 ms apart."""
    text = body("bench-100-20", True)
    seen, cost = cpu_of(gateway, lambda: load(program, gateway, streams, 64, PATIENCE, text), "words")
    return {**cost, "first_p99": seen["first"]["p99"], "whole_p50": seen["last"]["p50"], "words": seen["words"]}


def tokens(program, gateway, _):
    """3,200 words a second, for who keeps up."""
    return words(program, gateway, 64)


def tokens_kept_up(program, gateway, _):
    """800 words a second, so few that every gateway passes each on by itself as it comes."""
    return words(program, gateway, 16)


def streams(_, gateway, count):
    """Memory of open streams, each of which has had its first word and has one a second."""
    before = gateway.resident()
    held = OpenStreams(gateway, count)
    try:
        after = gateway.resident()
        return {"memory": (after - before) / max(held.count, 1) / 1024, "held": held.count, "resident": after / 1048576}
    finally:
        held.close()


class OpenStreams:
    def __init__(self, gateway, count):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 100)), hard))
        text = body("bench-60-1000", True).encode()
        head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: bench", "content-type: application/json", *gateway.headers,
                            f"content-length: {len(text)}", "", ""])
        self.selector, self.sockets, self.count = selectors.DefaultSelector(), [], 0
        deadline = time.monotonic() + PATIENCE
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", gateway.port), 10)
            self.sockets.append(connection)
            connection.sendall(head.encode() + text)
            self.selector.register(connection, selectors.EVENT_READ, bytearray())
            self.read(0)
        while self.count < count and self.selector.get_map() and time.monotonic() < deadline:
            self.read(1)

    def read(self, timeout):
        for key, _ in self.selector.select(timeout):
            try:
                piece = key.fileobj.recv(65536)
            except OSError:
                piece = b""
            key.data.extend(piece)
            if not piece or b"zq" in key.data:
                self.count += b"zq" in key.data
                self.selector.unregister(key.fileobj)

    def close(self):
        for connection in self.sockets:
            connection.close()
        self.selector.close()


WORKS = {  # name: (what measures one round, its figures: (name, unit, less what it takes without a gateway))
    "request": (request, (("p50", "µs", True), ("p99", "µs", True))),
    "first-token": (first_token, (("p50", "µs", True), ("p99", "µs", True))),
    "requests": (requests, (("cpu", "µs/request", False), ("p99", "µs", True))),
    "tokens": (tokens, (("cpu", "µs/token", False), ("first_p99", "µs", True))),
    "tokens-kept-up": (tokens_kept_up, (("cpu", "µs/token", False), ("first_p99", "µs", True))),
    "streams": (streams, (("memory", "KiB/stream", False), ("resident", "MiB in all", False), ("held", "streams", False))),
}
