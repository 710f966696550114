"""Kubernetes' own API server and its store, as processes on loopback. `API_SERVER` names the directory with both, which
tests/system/api_server/build.sh has made, `KUBECTL` the client."""
import json
import os
import subprocess

from certificates import openssl
from harness import HANG, eventually, free_port

ADMIN = "token-of-the-administrator"


class ApiServer:
    def __init__(self, scratch, authority):
        self.directory = f"{scratch.path}/api-server"
        os.makedirs(self.directory)
        self.programs, self.kubectl_program = os.environ["API_SERVER"], os.environ["KUBECTL"]
        self.store_port, self.port = free_port(), free_port()
        self.authority, self.url = authority, f"https://127.0.0.1:{self.port}"
        self.pair = authority.issue("127.0.0.1", "kubernetes.default.svc", file="api-server")
        openssl("genrsa", "-out", f"{self.directory}/accounts.key", "2048")
        openssl("rsa", "-in", f"{self.directory}/accounts.key", "-pubout", "-out", f"{self.directory}/accounts.pub")
        with open(f"{self.directory}/tokens.csv", "w") as file:
            file.write(f'{ADMIN},admin,1,"system:masters"\n')
        self.store = self.server = None

    def __enter__(self):
        try:
            self.store = self.start_store()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def spawn(self, name, *arguments):
        with open(f"{self.directory}/{name}.log", "a") as log:
            return subprocess.Popen([f"{self.programs}/{name}", *arguments], stdout=log, stderr=log, cwd=self.directory)

    def start_store(self):
        clients, peers = f"http://127.0.0.1:{self.store_port}", f"http://127.0.0.1:{free_port()}"
        return self.spawn("etcd", f"--data-dir={self.directory}/store", f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}",
                          f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}")

    def start(self):
        self.server = self.spawn(
            "apiserver", f"--etcd-servers=http://127.0.0.1:{self.store_port}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--tls-cert-file={self.pair.cert}", f"--tls-private-key-file={self.pair.key}",
            f"--cert-dir={self.directory}", f"--token-auth-file={self.directory}/tokens.csv", "--authorization-mode=RBAC",
            f"--service-account-key-file={self.directory}/accounts.pub", f"--service-account-signing-key-file={self.directory}/accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none")
        eventually(self.is_ready, "the API server is ready", seconds=120)

    def is_ready(self):
        return self.server.poll() is None and self.kubectl("get", "--raw=/readyz", check=False).returncode == 0

    def stop(self):
        self.server.kill()
        self.server.wait()

    def close(self):
        for process in filter(None, (self.server, self.store)):
            process.kill()
            process.wait()

    def kubectl(self, *words, text=None, token=ADMIN, check=True):
        done = subprocess.run([self.kubectl_program, f"--server={self.url}", f"--token={token}", f"--certificate-authority={self.authority.cert}",
                               f"--cache-dir={self.directory}/cache", *words], input=text, capture_output=True, text=True, timeout=HANG)
        assert not check or done.returncode == 0, done.stderr
        return done

    def apply(self, *objects):
        """As a client would that knows every field: one that does not exist is an error."""
        return self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
