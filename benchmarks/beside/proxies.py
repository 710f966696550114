"""The proxies that are compared, each configured for the same work, and how their CPU time is read."""
import json
import os
import resource
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # that a process here may have


def cpu_seconds(pid):
    """User and system seconds of a process and all its living descendants, from the scheduler's own accounting."""
    user = system = 0.0
    for process in descendants(pid):
        try:
            with open(f"/proc/{process}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        user += int(fields[11]) / TICK
        system += int(fields[12]) / TICK
    return user, system


def descendants(pid):
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children") as children:
                    found += [int(child) for child in children.read().split()]
        except OSError:
            continue
    return found


def wait_for_port(port, process, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"process for port {port} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


class Server:
    """A started server. Ends by its process id, never by name."""

    def __init__(self, name, command, port, log):
        self.name, self.port = name, port
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_port(port, self.process)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def resident(self):
        """Bytes of memory that no other process shares (of anonymous memory, of all its processes)."""
        total = 0
        for process in descendants(self.process.pid):
            with open(f"/proc/{process}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
        return total << 10

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def user():
    """As root, nginx would give its workers a user that cannot read the scratch directory."""
    return "user root; " if os.getuid() == 0 else ""


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def certificate(directory):
    """P-256, for everybody the same; (certificate, key, both in one file)."""
    cert, key, both = (f"{directory}/tls.{end}" for end in ("crt", "key", "pem"))
    if not os.path.exists(both):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
        write(both, open(cert).read() + open(key).read())
    return cert, key, both


def origin(directory, port, log):
    for name, size in (("1k", 1 << 10), ("64k", 64 << 10), ("1g", 1 << 30)):
        path = f"{directory}/{name}"
        with open(path, "wb") as file:
            file.truncate(size)
    config = write(f"{directory}/origin.conf", f"""
{user()}worker_processes 2; daemon off; pid {directory}/origin.pid; error_log {directory}/origin.err;
worker_rlimit_nofile {min(40000, DESCRIPTORS)};
events {{ worker_connections 20000; }}
http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 100000000; open_file_cache max=100;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ root {directory}; }} }} }}
""")
    return Server("origin", ["nginx", "-c", config, "-e", f"{directory}/origin.err"], port, log)


def grpc_origin(directory, port, log):
    """Echoes what is posted, with a trailer that says that all went well."""
    return Server("grpc-origin", ["nghttpd", "--no-tls", "--echo-upload", "--trailer", "grpc-status: 0", "-n", "2",
                                  "-a", "127.0.0.1", "-d", directory, str(port)], port, log)


def nginx(directory, port, origin_port, work, log, workers):
    tls = ""
    if work == "tls":
        cert, key, _ = certificate(directory)
        tls = (f"ssl http2; ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; "
               "http2_max_requests 100000000; ssl_session_cache shared:s:10m")
    if work == "grpc":
        body = f"""http {{ access_log off; keepalive_requests 100000000;
  upstream o {{ server 127.0.0.1:{origin_port}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} http2 backlog=4096; http2_max_requests 100000000;
    location / {{ grpc_pass grpc://o; }} }} }}"""
    elif work == "l4":
        body = f"stream {{ server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass 127.0.0.1:{origin_port}; }} }}"
    else:
        body = f"""http {{ access_log off; keepalive_requests 100000000;
  upstream o {{ server 127.0.0.1:{origin_port}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096 {tls}; location / {{ proxy_pass http://o; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}"""
    # Each has its place made at the start: for idle ones as many as HAProxy may have.
    places = {"http-few": 64, "http-idle": 12000}.get(work, 20000)
    modules = "include /etc/nginx/modules-enabled/*.conf;" if work == "l4" else ""
    config = write(f"{directory}/nginx-{work}.conf", f"""{modules}{user()}
worker_processes {workers}; daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.err;
worker_rlimit_nofile {min(40000, DESCRIPTORS)}; events {{ worker_connections {places}; }}
{body}
""")
    return Server("nginx", ["nginx", "-c", config, "-e", f"{directory}/nginx.err"], port, log)


def haproxy(directory, port, origin_port, work, log, workers):
    # splice-auto splices nothing here; forced, it would only slow small bodies down.
    tls = f" ssl crt {certificate(directory)[2]} alpn h2,http/1.1" if work == "tls" else ""
    bind_protocol, server_protocol = (" proto h2", " proto h2") if work == "grpc" else ("", "")
    splice = "" if work not in ("l4", "http-bulk") else "\n  option splice-request\n  option splice-response"
    mode = ("mode tcp" if work == "l4" else "mode http\n  option forwardfor\n  http-reuse always") + splice
    config = write(f"{directory}/haproxy-{work}.cfg", f"""
global
  nbthread {workers}
  maxconn {64 if work == "http-few" else 4000 if splice else min(12000, DESCRIPTORS // 2 - 200)}
defaults
  {mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{port} backlog 4096{tls}{bind_protocol}
  default_backend b
backend b
  server s 127.0.0.1:{origin_port}{server_protocol}
""")
    return Server("haproxy", ["haproxy", "-db", "-f", config], port, log)


def envoy(binary, directory, port, origin_port, work, log, workers):
    """As its edge example has it, without access log; JSON is YAML."""
    stream = "envoy.extensions.filters.network"
    typed = "type.googleapis.com/"
    http2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": typed + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}
    cluster = {"name": "o", "connect_timeout": "5s", "lb_policy": "ROUND_ROBIN",
               "circuit_breakers": {"thresholds": [{"max_connections": 16000, "max_pending_requests": 16000, "max_requests": 16000}]},
               "load_assignment": {"cluster_name": "o", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                   "socket_address": {"address": "127.0.0.1", "port_value": origin_port}}}}]}]}}
    if work == "grpc":
        cluster["typed_extension_protocol_options"] = http2
    if work == "l4":
        network = {"name": "tcp", "typed_config": {"@type": typed + stream + ".tcp_proxy.v3.TcpProxy", "stat_prefix": "b", "cluster": "o"}}
    else:
        network = {"name": "http", "typed_config": {
            "@type": typed + stream + ".http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "b", "use_remote_address": True,
            "http_filters": [{"name": "router", "typed_config": {"@type": typed + "envoy.extensions.filters.http.router.v3.Router"}}],
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "o", "timeout": "0s"}}]}]}}}
    chain = {"filters": [network]}
    if work == "tls":
        cert, key, _ = certificate(directory)
        chain["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": typed + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}]}}}
    config = write(f"{directory}/envoy-{work}.yaml", json.dumps({"static_resources": {"clusters": [cluster], "listeners": [{
        "name": "l", "tcp_backlog_size": 4096, "filter_chains": [chain],
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}]}}))
    return Server("envoy", [binary, "-c", config, "--concurrency", str(workers), "--use-dynamic-base-id", "-l", "error"], port, log)


def sluice(binary, directory, port, origin_port, work, log, workers):
    protocol = "tcp" if work == "l4" else "http"
    upstream = ", protocol: http2" if work == "grpc" else ""
    more = f", express: {work.removeprefix('http-express-')}" if work.startswith("http-express-") else ""
    if work == "tls":
        cert, key, _ = certificate(directory)
        more = f", tls: {{ certificates: [{{ cert: {cert}, key: {key} }}] }}"
    config = write(f"{directory}/sluice-{work}.yaml", f"""
version: 1
state_dir: {directory}/state
workers: {workers}
logs: {{ access: {{ format: none }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{port}", protocol: {protocol}{more} }} }}
upstreams: {{ origin: {{ endpoints: ["127.0.0.1:{origin_port}"]{upstream} }} }}
routes: [{{ listener: web, upstream: origin }}]
""")
    return Server("sluice", [binary, "run", "--policy", config, "--socket", f"{directory}/sluice-{work}.sock"], port, log)
