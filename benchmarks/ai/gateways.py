"""The AI gateways that are compared, each before the same stand-in of a vendor, and what stands for none of them."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../beside"))
import proxies  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = ("bench-1-0", "bench-16-2", "bench-100-20", "bench-60-1000")  # words, ms between two: see vendor.cc
KEY = "secret-of-the-vendor"


def compiled(name, directory):
    """A program of this directory, compiled anew where its source is newer."""
    source, program = f"{HERE}/{name}.cc", f"{directory}/{name}"
    if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
        print(f"compiling {name}.cc", file=sys.stderr)
        os.makedirs(directory, exist_ok=True)
        subprocess.run(["c++", "-std=c++20", "-O2", "-pthread", "-o", program, source], check=True)
    return program


class Gateway(proxies.Server):
    """`headers`: what its callers have to say besides. `started`: seconds that it may take to listen."""

    def __init__(self, name, command, port, log, headers=(), environment=None, started=120):
        self.name, self.port, self.headers = name, port, list(headers)
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        try:
            proxies.wait_for_port(port, self.process, started)
        except Exception:
            self.stop()
            raise

    def cpu(self):
        """(user, system) seconds: their sum is the scheduler's, in ns; how it divides is counted in ticks."""
        user, system = super().cpu()
        exact = sum(map(on_cpu, proxies.descendants(self.process.pid)))
        part = user / (user + system) if user + system else 0.5
        return exact * part, exact * (1 - part)


def on_cpu(process):
    total = 0
    try:
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/schedstat") as schedstat:
                total += int(schedstat.read().split()[0])
    except OSError:
        pass  # it has just ended
    return total / 1e9


def vendor(program, port, log):
    return Gateway("direct", [program, str(port)], port, log)


def sluice(binary, directory, port, vendor_port, log, workers):
    """With virtual keys, metrics and usage, as one would run it."""
    policy = proxies.write(f"{directory}/ai.yaml", f"""
version: 1
state_dir: {directory}/ai-state
workers: {workers}
logs: {{ access: {{ format: none }} }}
listeners: {{ llm: {{ bind: "127.0.0.1:{port}" }} }}
routes: [{{ ai: true }}]
ai:
  providers: {{ openai: {{ kind: openai, base_url: "http://127.0.0.1:{vendor_port}", key: "file:{secret(directory)}" }} }}
  models: {{ "bench-*": {{ targets: [{{ provider: openai }}] }} }}
""")
    os.makedirs(f"{directory}/ai-state", exist_ok=True)
    key = subprocess.run([binary, "keys", "create", "--policy", policy, "--name", "bench"], capture_output=True, text=True, check=True).stdout.strip()
    return Gateway("sluice", [binary, "run", "--policy", policy, "--socket", f"{directory}/ai.sock"], port, log, [f"authorization: Bearer {key}"])


def secret(directory):
    return proxies.write(f"{directory}/vendor.key", KEY + "\n")


def plain(binary, directory, port, vendor_port, log, workers):
    """Sluice's own HTTP proxying of the same requests, which reads nothing of them."""
    policy = proxies.write(f"{directory}/plain.yaml", f"""
version: 1
state_dir: {directory}/plain-state
workers: {workers}
logs: {{ access: {{ format: none }} }}
listeners: {{ llm: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ vendor: {{ endpoints: ["127.0.0.1:{vendor_port}"] }} }}
routes: [{{ upstream: vendor }}]
""")
    return Gateway("plain", [binary, "run", "--policy", policy, "--socket", f"{directory}/plain.sock"], port, log, [f"authorization: Bearer {KEY}"])


def portkey(peers, port, vendor_port, log):
    """One process, as its package starts it. Who is asked is said in each request's head."""
    script = f"{peers}/node_modules/@portkey-ai/gateway/build/start-server.js"
    if not os.path.exists(script):
        return None
    headers = [f"authorization: Bearer {KEY}", "x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{vendor_port}/v1"]
    return Gateway("portkey", ["node", script, f"--port={port}", "--headless"], port, log, headers,
                   {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"})


def litellm(peers, directory, port, vendor_port, log):
    """Without a database, its own key asked for. One process: of several, its server ends those that a busy machine holds up."""
    binary = f"{os.path.abspath(peers)}/litellm/bin/litellm"
    if not os.path.exists(binary):
        return None
    models = "".join(f"  - {{ model_name: {m}, litellm_params: {{ model: openai/{m}, api_base: 'http://127.0.0.1:{vendor_port}/v1', api_key: {KEY} }} }}\n"
                     for m in MODELS)
    config = proxies.write(f"{directory}/litellm.yaml", f"model_list:\n{models}general_settings: {{ master_key: sk-bench }}\n"
                                                       "litellm_settings: { telemetry: false, set_verbose: false }\n")
    return Gateway("litellm", [binary, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"], port, log,
                   ["authorization: Bearer sk-bench"], started=300,
                   environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "DO_NOT_TRACK": "1",
                                "LITELLM_TELEMETRY": "False", "HOME": directory, "PATH": f"{os.path.dirname(binary)}:{os.environ['PATH']}"})
