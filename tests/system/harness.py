"""What system tests share: a scratch directory, a running sluice, real nginx origins, raw sockets.

Everything that a test starts is ended by its process id when the test ends, whether it passed or not.
"""
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SLUICE = os.environ.get("SLUICE", os.path.join(os.path.dirname(__file__), "../../build/ci/sluice"))
SANITIZED = os.environ.get("SLUICE_SANITIZED") == "1"  # memory is not what it is without
SANITIZER = re.compile(r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|: runtime error: ")
HANG = 60 if SANITIZED else 20  # seconds after which something is taken to hang; never a performance bound


EXPRESS = os.environ.get("SLUICE_EXPRESS")  # "both": every policy asks for the express lane wherever it may


def in_the_lane(policy):
    """The policy with `express` in each listener without TLS that is a flow map; lines stay what they are."""
    if not EXPRESS:
        return policy
    import yaml
    try:
        sections = {key.value: value for key, value in yaml.compose(policy).value}
        places = [value.start_mark.index + 1 for _, value in sections["listeners"].value
                  if value.flow_style and not {"tls", "express"} & {key.value for key, _ in value.value}
                  and not any(key.value == "protocol" and word.value == "tls" for key, word in value.value)]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError):
        return policy  # it is meant to be none
    for place in sorted(places, reverse=True):
        comma = "" if policy[place:].lstrip().startswith("}") else ","
        policy = f"{policy[:place]} express: {EXPRESS}{comma}{policy[place:]}"
    return policy


def eventually(condition, what, seconds=HANG):
    """Waits until condition() is true; returns its value. Exceptions count as not yet."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            value = condition()
            if value:
                return value
        except (OSError, subprocess.CalledProcessError, ValueError, AssertionError) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}" + (f" (last: {last})" if last else ""))


def free_port():
    """Below those that the kernel gives to who connects: nobody gets it by chance before it is used."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    while True:
        port = random.randrange(10240, max(first, 10241 + 4096))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Scratch:
    """A temporary directory and the processes that belong to it."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="sluice-test.")
        self.closers = []
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        problems = []
        for close in reversed(self.closers):
            try:
                close()
            except AssertionError as problem:  # the rest is ended all the same
                problems.append(problem)
        shutil.rmtree(self.path, ignore_errors=True)
        if problems:
            raise problems[0]

    def write(self, name, text):
        """Written beside and moved over, as configuration management does."""
        path = os.path.join(self.path, name)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)
        return path


class Process:
    def __init__(self, scratch, name, command):
        self.log_path = os.path.join(scratch.path, f"{name}.log")
        self.log = open(self.log_path, "ab")
        self.process = self.spawn(command)
        scratch.closers.append(self.stop)
        scratch.processes.append(self)

    def spawn(self, command):
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def stop(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(HANG)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        return self.process.returncode


class Sluice(Process):
    """A running `sluice run` on a policy file."""

    lane = staticmethod(in_the_lane)

    def __init__(self, scratch, policy, name="sluice", wait=True, command=None):
        """`command`: words before the binary, such as prlimit and its arguments."""
        self.scratch = scratch
        # One keeper to a network namespace: the next ones do without.
        if any(isinstance(one, Sluice) for one in scratch.processes):
            self.lane = str
        self.policy = scratch.write(f"{name}.yaml", self.lane(policy))
        self.socket = os.path.join(scratch.path, f"{name}.sock")
        super().__init__(scratch, name, self.command([*(command or []), SLUICE, "run", "--policy", self.policy, "--socket", self.socket]))
        if wait:
            eventually(self.ready, f"sluice is ready; it said:\n{self.output()}")

    def command(self, arguments):
        """How it is started; a namespace of its own, for example."""
        return arguments

    def stop(self, sig=signal.SIGTERM):
        code = super().stop(sig)
        report = SANITIZER.search(self.output())
        assert not report, f"a sanitizer's report:\n{self.output()[report.start():][:6000]}"
        return code

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"sluice ended with {self.process.returncode}:\n{self.output()}")
        return re.search(r"\bready\b", self.output())

    def write_policy(self, policy):
        self.scratch.write(os.path.basename(self.policy), self.lane(policy))

    def ctl(self, *arguments, check=True):
        done = subprocess.run([SLUICE, *arguments, "--socket", self.socket], capture_output=True, text=True, timeout=HANG)
        if check and done.returncode != 0:
            raise AssertionError(f"sluice {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def status(self):
        return json.loads(self.ctl("status", "--output", "json").stdout)


class Nginx(Process):
    """A real origin. Says who it is and who called; serves files from its directory."""

    def __init__(self, scratch, name="origin", port=None, extra="", address="127.0.0.1"):
        self.name, self.port = name, port or free_port()
        self.directory = os.path.join(scratch.path, name)
        os.makedirs(self.directory, exist_ok=True)
        config = scratch.write(f"{name}.conf", f"""
{"user root; " if os.getuid() == 0 else ""}daemon off; worker_processes 1; pid {self.directory}/pid; error_log {self.directory}/error.log;
events {{ worker_connections 2048; }}
http {{ access_log off; client_body_temp_path {self.directory}; keepalive_requests 100000000;
  server {{ listen {address}:{self.port}; root {self.directory};
    location / {{ default_type text/plain; return 200 "{name} $remote_addr $request_method $http_host $request_uri $http_x_forwarded_for\\n"; }}
    location /files/ {{ }}
    {extra} }} }}
""")
        super().__init__(scratch, name, ["nginx", "-c", config, "-e", f"{self.directory}/error.log"])
        eventually(lambda: socket.create_connection((address, self.port), 1).close() or True, f"nginx {name} listens")

    def file(self, name, size):
        os.makedirs(f"{self.directory}/files", exist_ok=True)
        with open(f"{self.directory}/files/{name}", "wb") as file:
            file.write(os.urandom(size))
        return f"{self.directory}/files/{name}"


def curl(*arguments):
    """(exit code, body, head) of a real curl."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as head:
        done = subprocess.run(["curl", "-sS", "--max-time", str(HANG), "-D", head.name, *arguments], capture_output=True)
        return done.returncode, done.stdout, head.read()


def connect(port, timeout=HANG):
    return socket.create_connection(("127.0.0.1", port), timeout)


def read_all(connection):
    """Everything until the peer closes. A reset counts as a close: the bytes before it stand."""
    data = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            return data
        if not chunk:
            return data
        data += chunk


def exchange(port, request):
    """Sends raw bytes, half-closes nothing, returns all that comes until the server closes. A server that refuses may
    have reset the connection before connect() or send() returns: that is nothing sent, too."""
    try:
        connection = connect(port)
    except ConnectionResetError:
        return b""
    with connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(request)
        return read_all(connection)
