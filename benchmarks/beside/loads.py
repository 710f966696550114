"""Generators of load. Each returns (units of work done, 99th percentile of the latency in ms or None) and raises when a
request failed: a proxy that refuses work must not look cheap."""
import re
import resource
import socket
import statistics
import subprocess
import tempfile


def output(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wrk(port, path, seconds, connections, close=False, scheme="http"):
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    if close:
        command += ["-H", "Connection: close"]
    out = output(command + [f"{scheme}://127.0.0.1:{port}{path}"])
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    errors = re.search(r"Socket errors: (.*)", out)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if bad or (errors and not close):
        raise RuntimeError(f"errors under load: {bad.group(0) if bad else errors.group(0)}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    return requests, float(p99.group(1)) * {"us": 1e-3, "ms": 1, "s": 1e3}[p99.group(2)]


def full_handshakes(port, seconds, connections=16):
    """TLS 1.3, a request on each connection, by clients that know no session: wrk would resume those that it has."""
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-www", "/1k", "-new", "-time", str(seconds)]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(connections)]
    outs = [client.communicate()[0] for client in clients]
    if any(client.returncode != 0 for client in clients):
        raise RuntimeError(f"errors under load: {outs[0][-300:]}")
    return sum(int(re.findall(r"(\d+) connections in \d+ real seconds", out)[-1]) for out in outs), None


def resumed_handshakes(port, seconds):
    """All but the first of each of its connections resume a session by its ticket; wrk does so since 4.1."""
    return wrk(port, "/1k", seconds, 16, close=True, scheme="https")


def h2load(arguments):
    with tempfile.NamedTemporaryFile("r") as log:
        out = output(["h2load", "--log-file", log.name, *arguments])
        succeeded, failed, errored = map(int, re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out).groups())
        if failed or errored:
            raise RuntimeError(f"errors under load: {failed} failed, {errored} errored")
        latencies = [int(line.split("\t")[2]) for line in log]
    return succeeded, statistics.quantiles(latencies, n=100)[98] / 1e3


def fixed_rate(port, seconds, rate, connections=64):
    return h2load(["--h1", "-c", str(connections), "-D", str(seconds), f"--rps={rate // connections}",
                   f"http://127.0.0.1:{port}/1k"])


def http2(port, seconds):
    return h2load(["-c", "8", "-m", "100", "-D", str(seconds), f"https://127.0.0.1:{port}/1k"])


def grpc_unary(port, seconds):
    """A message of 100 bytes, echoed, with its trailers."""
    with tempfile.NamedTemporaryFile() as message:
        message.write(bytes([0, 0, 0, 0, 100]) + b"m" * 100)
        message.flush()
        return h2load(["-c", "8", "-m", "32", "-D", str(seconds), "-d", message.name, "-H", "content-type: application/grpc",
                       "-H", "te: trailers", f"http://127.0.0.1:{port}/bench.Echo/Unary"])


def bulk(port, path, times):
    for _ in range(times):
        subprocess.run(["curl", "-sS", "-o", "/dev/null", f"http://127.0.0.1:{port}{path}"], check=True)
    return times * (1 << 30) / 1e9, None


class IdleConnections:
    """Opened, each used for one request, then held."""

    def __init__(self, port, count):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count + 100:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))
        self.sockets = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), 10)
            self.sockets.append(connection)
            connection.sendall(b"GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < 1024:
                chunk = connection.recv(4096)
                if not chunk:
                    raise RuntimeError("closed before the answer was whole")
                answer += chunk

    def close(self):
        for connection in self.sockets:
            connection.close()


