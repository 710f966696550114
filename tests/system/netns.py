"""client ── node ── origin in three network namespaces, and code that runs inside one of them.

    client 10.71.0.2, fd71::2    node 10.71.0.1, fd71::1 | 10.72.0.1, fd72::1    origin 10.72.0.2, fd72::2
"""
import ctypes
import os
import subprocess
import threading

from harness import SLUICE, Nginx, Process, Sluice, eventually

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Thread(threading.Thread):
    """Runs body() in a network namespace; join() raises what it raised and returns what it returned."""

    def __init__(self, namespace, body):
        super().__init__(daemon=True)
        self.namespace, self.body, self.value, self.error = namespace, body, None, None
        self.start()

    def run(self):
        try:
            fd = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
            if _libc.setns(fd, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.close(fd)
            self.value = self.body()
        except BaseException as error:  # handed to whoever joins
            self.error = error

    def result(self):
        self.join(60)
        assert not self.is_alive(), "a thread hangs"
        if self.error:
            raise self.error
        return self.value


class Net:
    _count = 0

    def __init__(self, scratch):
        Net._count += 1
        self.scratch = scratch
        prefix = f"sl-{os.getpid()}-{Net._count}"
        self.client, self.node, self.origin = (f"{prefix}-{role}" for role in ("client", "node", "origin"))
        scratch.closers.append(self.remove)
        for namespace in (self.client, self.node, self.origin):
            run("ip", "netns", "add", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        self.join(self.client, "71", "lan0")
        self.join(self.origin, "72", "wan0")
        self.in_node("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

    def join(self, namespace, net, interface):
        run("ip", "link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", interface, "netns", self.node)
        for where, name, host in ((namespace, "eth0", "2"), (self.node, interface, "1")):
            run("ip", "-n", where, "addr", "add", f"10.{net}.0.{host}/24", "dev", name)
            run("ip", "-n", where, "addr", "add", f"fd{net}::{host}/64", "dev", name, "nodad")
            run("ip", "-n", where, "link", "set", name, "up")
        run("ip", "-n", namespace, "route", "add", "default", "via", f"10.{net}.0.1")
        run("ip", "-n", namespace, "-6", "route", "add", "default", "via", f"fd{net}::1")

    def remove(self):
        self.in_node(SLUICE, "cleanup", check=False)
        for namespace in (self.client, self.node, self.origin):
            run("ip", "netns", "del", namespace, check=False)

    # nsenter and not `ip netns exec`: the latter mounts a /sys without the BPF file system.
    def command(self, namespace, *words):
        return ["nsenter", f"--net=/run/netns/{namespace}", *words]

    def in_node(self, *words, check=True):
        return run(*self.command(self.node, *words), check=check)

    def in_client(self, *words, check=True):
        return run(*self.command(self.client, *words), check=check)

    def curl(self, url, *options):
        """The body, or None when curl fails."""
        done = subprocess.run(self.command(self.client, "curl", "-sS", "--max-time", "5", *options, url),
                              capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def as_client(self, body):
        return Thread(self.client, body)

    def nginx(self):
        return NodeNginx(self)


class NodeNginx(Process):
    """A real origin on 10.72.0.2:8080 that says who called."""

    def __init__(self, net):
        directory = os.path.join(net.scratch.path, "origin")
        os.makedirs(directory, exist_ok=True)
        config = net.scratch.write("origin.conf", f"""
user root; daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 2048; }}
http {{ access_log off; client_body_temp_path {directory}; keepalive_requests 100000000;
  server {{ listen 8080; listen [::]:8080; default_type text/plain;
    location / {{ return 200 "origin, called from $remote_addr\\n"; }} }} }}
""")
        super().__init__(net.scratch, "nginx", net.command(net.origin, "nginx", "-c", config, "-e", f"{directory}/error.log"))
        eventually(lambda: net.in_node("curl", "-sS", "http://10.72.0.2:8080/"), "nginx listens")


class NodeSluice(Sluice):
    """`sluice run` on the node."""

    def __init__(self, net, policy, name="sluice", binary=SLUICE, wait=True, options=(), limits=()):
        self.net, self.scratch = net, net.scratch
        self.policy = net.scratch.write(f"{name}.yaml", self.lane(policy))
        self.socket = os.path.join(net.scratch.path, f"{name}.sock")
        Process.__init__(self, net.scratch, name, [
            *limits, *net.command(net.node, binary, "run", "--policy", self.policy, "--socket", self.socket, *options)])
        if wait:
            eventually(self.ready, f"sluice is ready; it said:\n{self.output()}")

    def ctl(self, *arguments, check=True):
        done = subprocess.run(self.net.command(self.net.node, SLUICE, *arguments, "--socket", self.socket),
                              capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"sluice {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.output()}")
        return done

    def gateway(self):
        return self.status()["gateway"]["pid"]

    def metric(self, name):
        """The sum of a metric's series; -1: there is none."""
        page = self.net.in_node("curl", "-sS", "--max-time", "5", "http://127.0.0.1:9464/metrics")
        values = [float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(values) if values else -1

    def children(self):
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
                return [int(pid) for pid in children.read().split()]
        except OSError:
            return []

    def kill_all(self):
        """kill -9 to keeper and gateways."""
        victims = [self.pid, *self.children()]
        for pid in victims:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.process.wait()
