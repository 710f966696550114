"""The command line, as people and scripts use it."""
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree

import pytest

from harness import SLUICE, Nginx, Sluice, curl, eventually, free_port

POLICY = """version: 1
protect: { from: [{ cidr: 10.9.0.0/24, to_ports: [22] }] }
intercept:
  forward:
    - { from: [10.1.0.0/16], except: { to: [10.96.0.0/12] }, ports: [443], listener: raw }
listeners:
  web: { bind: "192.0.2.9:80" }
  raw: { protocol: tcp }
upstreams:
  api: { endpoints: ["192.0.2.1:80", "192.0.2.2:80"], lb_policy: least_request }
  old: { endpoints: ["192.0.2.3:80"] }
routes:
  - { name: any, listener: web, upstream: old }
  - { name: canary, listener: web, host: api.example, path: /v1, headers: [{ name: x-canary, exact: "1" }], upstream: api }
guard:
  rules:
    - { name: telnet, to_ports: [23], protocol: tcp, except: { from: [198.51.100.7] } }
"""


def sluice(*arguments, env=None, check=None, cwd=None):
    done = subprocess.run([SLUICE, *arguments], capture_output=True, text=True, timeout=20, cwd=cwd,
                          env={**os.environ, **(env or {})})
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def test_a_place_in_tmp_that_another_user_made_is_not_trusted():
    if os.geteuid() != 0:
        pytest.skip("needs two users")
    user, place = 61234, "/tmp/sluice-61234"
    env = {name: value for name, value in os.environ.items() if name not in ("SLUICE_SOCKET", "XDG_RUNTIME_DIR")}
    os.mkdir(place)
    try:
        with socket.socket(socket.AF_UNIX) as trap, tempfile.NamedTemporaryFile("w", suffix=".yaml") as policy:
            trap.bind(f"{place}/sluice.sock")
            trap.listen()
            os.chmod(f"{place}/sluice.sock", 0o777)
            os.chown(place, user + 1, -1)
            policy.write("version: 1\n")
            policy.flush()
            os.chmod(policy.name, 0o644)
            for arguments in (["status"], ["run", "--policy", policy.name]):
                done = subprocess.run([SLUICE, *arguments], capture_output=True, text=True, timeout=20, env=env, user=user, cwd="/")
                assert done.returncode != 0 and f"{place} is not a directory of this user's alone" in done.stderr, done
            trap.setblocking(False)
            with pytest.raises(BlockingIOError):
                trap.accept()
    finally:
        shutil.rmtree(place)


def commands():
    overview = sluice("--help", check=0).stdout
    return re.findall(r"^  ([a-z]+) ", overview, re.M)


@pytest.fixture
def policy(scratch):
    return scratch.write("policy.yaml", POLICY)


def explained(*arguments, check=0):
    return json.loads(sluice("explain", *arguments, "--output", "json", check=check).stdout)


def steps(answer):
    return {step["phase"]: step for step in answer["steps"]}


def test_every_command_helps_and_speaks_json():
    names = commands()
    assert {"run", "check", "explain", "plan", "doctor", "test", "status", "upstream", "schema", "completion"} <= set(names)
    for name in names:
        text = sluice(name, "--help", check=0).stdout
        assert text.startswith(f"usage: sluice {name}"), text
        assert "--output FORMAT" in text, f"{name} has no --output"
        assert "Exit codes: 0 done, 1 failed, 2 wrong usage" in text
        assert sluice(name, "--no-such-option").returncode == 2
        assert sluice(name, "--output", "xml", *["x"] * 4).returncode == 2


def test_apply_says_when_the_kernel_goes_back_by_itself():
    text = " ".join(sluice("apply", "--help", check=0).stdout.split())
    assert "If both processes die meanwhile, the kernel puts the guard's rules back, two seconds later than asked." in text


def test_the_man_page_has_every_command_and_is_well_formed():
    path = os.path.join(os.path.dirname(__file__), "../../deploy/man/sluice.8")
    page = subprocess.run(["groff", "-man", "-Tutf8", "-ww", path], capture_output=True, text=True)
    assert page.returncode == 0 and page.stderr == ""
    with open(path) as file:
        source = file.read()
    for name in commands():
        assert re.search(rf"^\.BR? .*\b{name}\b", source, re.M), f"{name} is not in the man page"
        options = re.findall(r"^  --([a-z-]+)", sluice(name, "--help").stdout, re.M)
        for option in options:
            assert option.replace("-", "\\-") in source, f"--{option} of {name} is not in the man page"


@pytest.mark.parametrize("words", [["schema"], ["help"], ["check", "--help"], ["version"], ["completion", "bash"],
                                   ["check", "POLICY"], ["check", "POLICY", "--output", "json"], ["plan", "POLICY", "--against", "POLICY"],
                                   ["explain", "--policy", "POLICY", "--from", "192.0.2.1", "GET", "http://192.0.2.9/"]])
def test_output_that_cannot_be_written_is_an_error(policy, words):
    command = [SLUICE, *[policy if word == "POLICY" else word for word in words]]
    for where, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = subprocess.run(["bash", "-c", f'"$@" {where}', "-", *command], capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stderr) == (1, f"sluice: cannot write the output: {why}\n"), where
    # A reader that goes, where SIGPIPE does not end the process.
    gone, end = os.pipe()
    os.close(gone)
    done = subprocess.run(["bash", "-c", 'trap "" PIPE; "$@"', "-", *command], stdout=end, stderr=subprocess.PIPE, text=True, timeout=20)
    os.close(end)
    assert (done.returncode, done.stderr) == (1, "")
    assert sluice(*command[1:], check=0).stderr == ""


def test_output_to_a_closed_descriptor_does_not_get_into_the_admin_socket(serving):
    running = serving[0]
    for words in (["status"], ["bans"], ["set", "list"], ["status", "--output", "json"]):
        done = subprocess.run(["bash", "-c", '"$@" >&-', "-", SLUICE, *words, "--socket", running.socket],
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == 1 and "cannot write the output: Bad file descriptor" in done.stderr, (words, done.stderr)
    # What went wrong before keeps its code.
    done = subprocess.run(["bash", "-c", '"$@" >/dev/full', "-", SLUICE, "check", "/nowhere", "--output", "json"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 2, done.stderr


def test_check_warns_of_entries_that_never_decide(scratch):
    path = scratch.write("dead.yaml", """version: 1
listeners: { web: { bind: "192.0.2.9:80" } }
upstreams: { api: { endpoints: ["192.0.2.1:80"] } }
routes: [{ upstream: api }]
intercept:
  forward:
    - { from: [10.0.0.0/8], ports: [80], listener: web }
    - { from: [10.1.0.0/16], ports: [80], listener: web }
guard:
  rules:
    - { name: wide, from: [10.0.0.0/8] }
    - { name: narrow, from: [10.1.0.0/16], to_ports: [80], protocol: tcp }
    - { name: nothing, from: [192.0.2.0/24], except: { from: [192.0.0.0/16] } }
""")
    told = sluice("check", path, check=0).stderr
    assert re.search(r"dead\.yaml:12:\d+: warning: guard rule `narrow` never decides: rule `wide`", told), told
    assert re.search(r"dead\.yaml:13:\d+: warning: guard rule `nothing` can never match", told), told
    assert re.search(r"dead\.yaml:8:\d+: warning: intercept\.forward: never decides", told), told
    answer = json.loads(sluice("check", path, "--output", "json", check=0).stdout)
    assert answer["ok"] and [found["severity"] for found in answer["diagnostics"]] == ["warning"] * 3


@pytest.mark.parametrize("to, finish, said", [("gemini", "tool_calls", "the arguments of the call of f are not a JSON object"),
                                              ("anthropic", "paused", "paused")])
def test_translate_fails_where_the_target_has_no_words_for_the_stream(scratch, to, finish, said):
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a":'}}
    chunks = [{"delta": {"tool_calls": [call]}, "finish_reason": None}, {"delta": {}, "finish_reason": finish}]
    file = scratch.write("stream", "".join(f"data: {json.dumps({'id': 'c', 'model': 'm', 'choices': [{'index': 0, **one}]})}\n\n" for one in chunks))
    done = sluice("translate", "--what", "stream", "--from", "openai", "--to", to, file, check=1)
    assert said in done.stderr and "message_stop" not in done.stdout and "finishReason" not in done.stdout, done


def test_schema_is_a_json_schema_that_takes_the_policy():
    schema = json.loads(sluice("schema", check=0).stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"listeners", "routes", "guard"} <= set(schema["properties"])


# --- completion in real shells -----------------------------------------------------------------


def test_bash_completes_commands_options_and_values():
    script = sluice("completion", "bash", check=0).stdout

    def complete(*words):
        line = " ".join(f"'{w}'" for w in words)
        done = subprocess.run(
            ["bash", "-c", f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _sluice; "
             "printf '%s\\n' \"${COMPREPLY[@]}\""], capture_output=True, text=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    assert complete("sluice", "st") == {"status"}
    assert set(commands()) <= complete("sluice", "")
    assert complete("sluice", "status", "--output", "") == {"table", "json"}
    assert complete("sluice", "upstream", "d") == {"drain"}
    assert {"add", "delete", "list", "--for"} <= complete("sluice", "set", "")
    assert complete("sluice", "explain", "--fr") == {"--from", "--from-port", "--fragment"}
    assert "/etc/passwd" in complete("sluice", "check", "/etc/pass")


def test_fish_completes_commands_options_and_values(scratch):
    script = scratch.write("sluice.fish", sluice("completion", "fish", check=0).stdout)

    def complete(line):
        done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
                              capture_output=True, text=True, env={**os.environ, "HOME": scratch.path})
        assert done.returncode == 0, done.stderr
        return {entry.split("\t")[0] for entry in done.stdout.splitlines()}

    assert complete("sluice st") == {"status"}
    assert complete("sluice status --output ") == {"table", "json"}
    assert {"drain", "ready", "weight"} <= complete("sluice upstream ")
    assert {"add", "delete", "list"} <= complete("sluice set ")


def test_completion_knows_the_words_of_every_command_that_has_some():
    with_words = {}
    for name in commands():
        usage = sluice(name, "--help").stdout.splitlines()[0]
        if found := re.match(rf"usage: sluice {name} ([a-z]+(?:\|[a-z]+)+)", usage):
            with_words[name] = found[1].replace("|", " ")
    assert set(with_words) == {"set", "upstream", "keys", "completion"}
    scripts = {shell: sluice("completion", shell, check=0).stdout for shell in ("bash", "zsh", "fish")}
    for name, words in with_words.items():
        assert sluice(name, "nothing", *([] if name == "completion" else ["x"])).stderr.startswith(f"sluice: {name} takes ")
        assert f"compgen -W '{words}'" in scripts["bash"] and f"'1:word:({words})'" in scripts["zsh"]
        assert f"__fish_seen_subcommand_from {name}' -a '{words}'" in scripts["fish"]


def test_zsh_takes_the_script_and_knows_the_command(scratch):
    script = scratch.write("_sluice", sluice("completion", "zsh", check=0).stdout)
    done = subprocess.run(
        ["zsh", "-f", "-c", f"autoload -U compinit; compinit -D -u -d {scratch.path}/dump; source {script}; "
         "print -- $_comps[sluice]; functions _sluice | head -1"],
        capture_output=True, text=True, env={**os.environ, "HOME": scratch.path})
    assert done.stdout.splitlines()[0] == "_sluice", done.stdout + done.stderr
    assert done.stderr == ""


# --- a process without a keeper -----------------------------------------------------------------


@pytest.fixture
def plain(scratch):
    """Of a policy that uses nothing of the kernel."""
    yield Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
listeners: {{ web: {{ bind: "127.0.0.1:{free_port()}" }} }}
routes: [{{ direct_response: {{ status: 204 }} }}]
""")


@pytest.mark.parametrize("words, hint", [
    (["top"], "sluice_requests_total"), (["top", "--once", "--by", "source"], "guard: { monitor: [service, source] }"),
    (["drops"], "nothing is dropped there"), (["drops", "-f"], "nothing is dropped there"),
    (["ban", "192.0.2.1"], "nothing is dropped there"), (["upgrade"], "no keeper"),
])
def test_what_takes_a_keeper_says_so_in_a_line(plain, words, hint):
    done = plain.ctl(*words, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"sluice: this policy uses nothing of the kernel .*\n", done.stderr) and hint in done.stderr, done.stderr
    told = plain.ctl(*words, "--output", "json", check=False)
    assert told.returncode == 1 and json.loads(told.stdout)["error"] in done.stderr


def test_what_takes_none_works_without_a_keeper(plain):
    assert plain.ctl("bans").stdout == "nobody is banned\n"
    assert plain.ctl("unban", "192.0.2.1").stdout == "192.0.2.1 was not banned\n"
    assert "plain mode" in plain.ctl("status").stdout
    assert sluice("doctor", "--policy", plain.policy).returncode in (0, 3)  # 3: of this machine


# --- explain ------------------------------------------------------------------------------------


def test_explain_names_what_dropped_a_packet(policy):
    answer = explained("--policy", policy, "--from", "198.51.100.8", "--to", "203.0.113.1", "--port", "23")
    assert (answer["verdict"], answer["outcome"]) == ("drop", "dropped by rule `telnet`")
    assert steps(answer)["guard"]["where"] == f"{policy}:17:7"
    excepted = explained("--policy", policy, "--from", "198.51.100.7", "--to", "203.0.113.1", "--port", "23")
    assert excepted["verdict"] == "pass"
    assert "its `except` holds" in steps(excepted)["guard"]["reasons"][0]["text"]


def test_explain_goes_from_the_packet_through_interception_to_the_upstream(policy):
    answer = explained("--policy", policy, "--from", "10.1.2.3", "--to", "203.0.113.1", "--port", "443")
    assert [step["phase"] for step in answer["steps"]] == [
        "protect", "bans", "guard", "intercept", "steering", "listener", "route", "route", "upstream", "balance"]
    assert answer["outcome"].startswith("default_route.forward: forwarded")
    assert steps(answer)["intercept"]["where"] == f"{policy}:5:7"


def test_explain_a_request_by_method_url_and_headers(policy):
    where = ["--policy", policy, "--from", "198.51.100.8", "--to", "192.0.2.9"]
    plain = explained(*where, "GET", "http://api.example/v1/users?x=1")
    assert steps(plain)["route"]["name"] == "any"
    assert any("canary" in reason["text"] and "x-canary" in reason["text"] for reason in steps(plain)["route"]["reasons"])
    canary = explained(*where, "GET", "http://api.example/%761/users", "--header", "X-Canary: 1")
    assert steps(canary)["route"]["name"] == "canary"
    assert steps(canary)["route"]["where"] == f"{policy}:14:5"
    assert steps(canary)["balance"]["verdict"].startswith("`api`: least_request over 2 endpoints")
    assert sluice("explain", "--policy", policy, "--listener", "web", "/../x").returncode == 2


def test_explain_a_url_alone_begins_at_the_listener_of_its_port(scratch):
    two = scratch.write("two.yaml", """version: 1
listeners: { web: { bind: "127.0.0.1:8080" }, other: { bind: "127.0.0.1:8081" } }
upstreams: { api: { endpoints: ["127.0.0.1:9000"] } }
routes: [{ listener: web, name: w, upstream: api }, { listener: other, name: o, upstream: api }]
""")
    assert steps(explained("--policy", two, "GET", "http://127.0.0.1:8081/x"))["route"]["name"] == "o"
    assert steps(explained("--policy", two, "GET", "http://[::1]:8080/x"))["route"]["name"] == "w"
    assert "several listeners" in explained("--policy", two, "GET", "/x")["outcome"]


def test_explain_prints_a_table_that_fits_people(policy):
    text = sluice("explain", "--policy", policy, "--from", "198.51.100.8", "--to", "203.0.113.1",
                  "--port", "23", check=0).stdout
    assert "guard       dropped by rule `telnet`  [" in text
    assert text.endswith("=> dropped by rule `telnet`\n") and "\x1b" not in text


@pytest.mark.parametrize("wrong", [["--from", "1.2.3"], ["--from", "1.2.3.4", "--to", "::1"],
                                   ["--from", "1.2.3.4", "--to", "1.2.3.5", "--port", "66000"],
                                   ["--from", "1.2.3.4", "--to", "1.2.3.5", "--proto", "tpc"],
                                   ["GET", "ftp:x"], ["GET", "ftp://x/"], ["GET", "http://"], ["GET", "https:///x"], ["http://:80/"],
                                   ["--from", "1.2.3.4", "--port", "23"], ["--port", "23"], []])
def test_explain_says_in_one_line_what_is_wrong(policy, wrong):
    for where in (["--policy", policy], ["--socket", "/nowhere"]):
        done = sluice("explain", *where, *wrong)
        assert done.returncode == 2 and done.stderr.startswith("sluice: ") and done.stderr.count("\n") == 1, done.stderr


def asked(policy, *questions):
    done = subprocess.run([SLUICE, "explain", "--policy", policy, "--questions", "-"], capture_output=True, text=True, timeout=20,
                          input="".join(json.dumps(question) + "\n" for question in questions))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(questions) and done.returncode == (0 if all(answer["ok"] for answer in answers) else 1)
    return answers


PACKET = {"from": "198.51.100.8", "to": "203.0.113.1"}


@pytest.mark.parametrize("more, said", [
    ({"ports": 23}, 'there is no "ports"; known: from, from_port, to, port, proto, direction, interface, way, cgroup, fragment, method, '
                    "url, host, headers, claims, certificate_names, listener"),
    ({"": 1}, 'there is no ""; known: '),
    ({"port": "23"}, 'port: a number, 0 to 65535, not "23"'), ({"port": 65536}, "port: a number, 0 to 65535, not 65536"),
    ({"to_port": -1}, "to_port: a number, 0 to 65535, not -1"), ({"from_port": 1.5}, "from_port: a number, 0 to 65535, not 1.5E0"),
    ({"port": 23, "to_port": 24}, "to_port and port are the same"),
    ({"proto": 256}, "proto: a name, or a number, 0 to 255, not 256"), ({"proto": None}, "proto: a name, or a number, 0 to 255, not null"),
    ({"proto": "tpc"}, "protocol: 'tpc' is none of tcp, udp, sctp, icmp, icmpv6, 0 to 255"),
    ({"fragment": 1}, "fragment: true or false, not 1"), ({"interface": ["eth0"]}, 'interface: text, not ["eth0"]'),
    ({"url": "/", "headers": {"x": "y"}}, 'headers: [[NAME, VALUE], ...], not {"x":"y"}'),
    ({"url": "/", "claims": [["a"]]}, 'claims: [[NAME, VALUE], ...], not [["a"]]'),
    ({"url": "/", "certificate_names": "a"}, 'certificate_names: a list of names, not "a"'),
])
def test_a_question_that_is_not_understood_is_refused(policy, more, said):
    answer, = asked(policy, {**PACKET, **more})
    assert not answer["ok"] and answer["error"].startswith(said), answer


def test_a_source_alone_takes_nothing_of_a_packet(policy):
    answer, = asked(policy, {"from": "198.51.100.8", "port": 23})
    assert answer["error"] == "to_port: nothing depends on it without `to` or `url`"


def test_questions_take_the_words_of_the_options_too(policy):
    both = asked(policy, {**PACKET, "port": 23}, {**PACKET, "to_port": 23, "proto": "tcp", "fragment": False},
                 {**PACKET, "to_port": 23, "protocol": 6})
    assert [answer["outcome"] for answer in both] == ["dropped by rule `telnet`"] * 3
    others = asked(policy, {**PACKET, "port": 23, "proto": 47}, {**PACKET, "port": 23, "protocol": "47"}, {**PACKET, "port": 23, "fragment": True})
    assert [answer["verdict"] for answer in others] == ["pass"] * 3


def test_explain_knows_where_the_guard_looks(scratch):
    policy = scratch.write("lan.yaml", "version: 1\nguard: { interfaces: [\"lan*\"], rules: [{ name: telnet, to_ports: [23] }] }\n")
    packet = ["--policy", policy, "--from", "198.51.100.8", "--to", "203.0.113.1", "--port", "23", "--interface"]
    assert explained(*packet, "lan7")["outcome"] == "dropped by rule `telnet`"
    answer = explained(*packet, "wan0")
    assert answer["verdict"] == "pass" and "guard.interfaces" in steps(answer)["guard"]["reasons"][0]["text"]
    tests = scratch.write("t.yaml", "policy: lan.yaml\ntests:\n  - { packet: { from: 198.51.100.8, to: 203.0.113.1, to_port: 23, interface: wan0 }, "
                                    "expect: { verdict: pass } }\n")
    assert sluice("test", tests, check=0).stdout.endswith("1 passed, 0 failed\n")


@pytest.fixture
def serving(scratch):
    origins = [Nginx(scratch, f"origin-{i}") for i in (1, 2)]
    port = free_port()
    text = f"""version: 1
state_dir: {scratch.path}/state
logs: {{ access: {{ format: json, path: {scratch.path}/access.log }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ api: {{ endpoints: ["127.0.0.1:{origins[0].port}", "127.0.0.1:{origins[1].port}"] }} }}
routes: [{{ name: v1, listener: web, path: /v1, upstream: api }}]
"""
    return Sluice(scratch, text), origins, port, text


def live(running, *arguments):
    return json.loads(running.ctl("explain", *arguments, "--output", "json").stdout)


def served_by(port):
    return {curl(f"http://127.0.0.1:{port}/v1")[1].split()[0].decode() for _ in range(6)}


def test_upstream_drain_ready_and_weight_hold_over_reloads(serving):
    running, origins, port, text = serving
    assert served_by(port) == {"origin-1", "origin-2"}
    first = f"127.0.0.1:{origins[0].port}"
    running.ctl("upstream", "drain", "api", first)
    assert served_by(port) == {"origin-2"}
    answer = live(running, "--listener", "web", "/v1")
    assert "1 of 2 available" in steps(answer)["balance"]["verdict"]
    assert any(first + ": drained" in reason["text"] for reason in steps(answer)["balance"]["reasons"])

    running.write_policy(text.replace("/v1, upstream", "/v1, timeout: 9s, upstream").replace(
        "endpoints:", "lb_policy: random, endpoints:"))
    running.ctl("reload")
    assert served_by(port) == {"origin-2"}
    running.ctl("upstream", "ready", "api")
    running.ctl("upstream", "weight", "api", first, "0")
    running.write_policy(text)
    running.ctl("reload")
    assert served_by(port) == {"origin-2"}
    running.ctl("upstream", "ready", "api", first)
    assert served_by(port) == {"origin-1", "origin-2"}


@pytest.mark.parametrize("wrong, said", [
    (["drain", "nobody"], "there is no upstream 'nobody'; there are: api"),
    (["drain", "api", "1.2.3.4:5"], "has no endpoint '1.2.3.4:5'; it has: 127.0.0.1:"),
])
def test_upstream_says_what_there_is(serving, wrong, said):
    done = serving[0].ctl("upstream", *wrong, check=False)
    assert done.returncode == 1 and said in done.stderr


def test_explain_a_request_of_the_log(serving, scratch):
    running, _, port, _ = serving
    curl(f"http://127.0.0.1:{port}/v1/x?secret=1")
    curl(f"http://127.0.0.1:{port}/nowhere")
    log = f"{scratch.path}/access.log"

    def lines():
        with open(log) as file:
            return [json.loads(line) for line in file]
    eventually(lambda: len(lines()) == 2, "both requests are logged")
    for line in sorted(lines(), key=lambda one: one["status"]):  # each worker writes its own
        asked = ["--request", f"{line['connection']}/{line['request']}", "--log", log]
        for answer in (live(running, *asked), explained(*asked, "--policy", running.policy)):
            if line["status"] == 200:
                assert steps(answer)["route"]["name"] == line["route"] == "v1"
            else:
                assert answer["status"] == line["status"] == 404
    text = running.ctl("explain", *asked).stdout
    assert text.startswith("logged 2") and "status 404" in text
    assert text.splitlines()[-1].startswith("=> answered with 404: no route; no route")
    assert running.ctl("explain", "--request", "999/1", "--log", log, check=False).returncode == 1


def test_explain_of_a_logged_request_tells_what_was_decided(scratch):
    """And what would be now apart from it, where the log has what it takes."""
    port, origin, log = free_port(), Nginx(scratch), f"{scratch.path}/access.log"
    running = Sluice(scratch, f"""version: 1
state_dir: {scratch.path}/state
logs: {{ access: {{ path: {log} }} }}
listeners: {{ web: {{ bind: "127.0.0.1:{port}" }} }}
upstreams: {{ up: {{ endpoints: ["127.0.0.1:{origin.port}"] }} }}
auth: {{ keys: {{ api_keys: {{ keys: [{{ name: a, sha256: {"ab" * 32} }}] }} }} }}
limits:
  s: {{ rate: 1000/s, burst: 1 }}
routes:
  - {{ name: few, path: /few, upstream: up, limits: [s] }}
  - {{ name: mine, path: /mine, upstream: up, auth: [keys] }}
  - {{ name: canary, headers: [{{ name: x-canary, exact: "1" }}], upstream: up }}
  - {{ name: any, direct_response: {{ status: 418, body: "no" }} }}
""")
    url = f"http://127.0.0.1:{port}"

    def lines():
        with open(log) as file:
            return [json.loads(line) for line in file]
    for arguments in (["/mine"], ["/", "-H", "x-canary: 1"], ["/few?x=1"]):
        curl(url + arguments[0], *arguments[1:])
    for _ in range(50):
        curl(f"{url}/few", f"{url}/few", f"{url}/few")
    eventually(lambda: any(line["status"] == 429 for line in lines()), "the limit refuses")
    by_status = {line["status"]: line for line in lines() if line["route"] != "few" or line["status"] == 429}
    assert set(by_status) == {401, 200, 429}
    told = {401: ("no credentials", "auth `keys`"), 200: (None, "route `canary`"), 429: ("limit s exceeded", "limit `s`")}
    for status, line in by_status.items():
        asked = ["--request", f"{line['connection']}/{line['request']}", "--log", log]
        for answer in (live(running, *asked), explained(*asked, "--policy", running.policy)):
            decided = answer["decided"]
            assert answer["status"] == decided["status"] == status and decided["route"] == line["route"]
            assert answer["outcome"] == decided["outcome"] and decided.get("reason") == told[status][0]
            assert decided["places"][0]["text"] == told[status][1]
            assert re.search(r"\.yaml:\d+:\d+$", decided["places"][0]["where"])
            assert answer["passes"] == (status == 200)
        now = answer["now"]
        if status == 200:
            assert "not known: route `canary` looks at header fields" in now["outcome"] and "418" not in json.dumps(answer)
        else:
            assert now["verdict"] == "forward" and bool(now["unknown"]) == (status == 401)
        text = running.ctl("explain", *asked).stdout
        last = text.splitlines()[-1]
        assert last.startswith(f"=> answered with {status}") and ".yaml:" in last and "\nnow: " in text


def test_run_logs_json_when_asked(scratch):
    port = free_port()
    path = scratch.write("p.yaml", f"version: 1\nstate_dir: {scratch.path}/state\n"
                         f"listeners: {{ web: {{ bind: \"127.0.0.1:{port}\" }} }}\n"
                         "upstreams: { a: { endpoints: [\"127.0.0.1:1\"] } }\nroutes: [{ listener: web, upstream: a }]\n")
    process = subprocess.Popen([SLUICE, "run", "--policy", path, "--output", "json", "--socket", scratch.path + "/s"],
                               stderr=subprocess.PIPE, text=True)
    seen = []
    for line in process.stderr:
        seen.append(json.loads(line))
        if seen[-1]["message"] == "ready":
            break
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert {"time", "level", "component", "message"} <= set(seen[-1])


# --- test ---------------------------------------------------------------------------------------

TESTS = """policy: policy.yaml
tests:
  - name: telnet is dropped
    packet: { from: 198.51.100.8, to: 203.0.113.1, to_port: 23 }
    expect: { verdict: drop, guard: telnet }
  - name: canaries
    packet: { from: 198.51.100.8, to: 192.0.2.9, to_port: 80 }
    request: { host: api.example, path: /v1, headers: { x-canary: "1" } }
    expect: { verdict: forward, listener: web, route: canary, upstream: api }
  - { name: malformed, request: { listener: web, path: /../x }, expect: { verdict: refuse, status: 400 } }
"""


def test_policy_tests_pass_and_fail_with_an_exit_code_and_junit(scratch, policy):
    path = scratch.write("tests.yaml", TESTS)
    junit = scratch.path + "/junit.xml"
    assert sluice("test", path, "--junit", junit, check=0).stdout.endswith("3 passed, 0 failed\n")
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "0")

    scratch.write("policy.yaml", POLICY.replace("to_ports: [23]", "to_ports: [24]"))
    done = sluice("test", path, "--junit", junit, check=1)
    assert f"{path}:3:5: expected verdict drop, got pass" in done.stdout
    suite = ElementTree.parse(junit).getroot()
    assert suite.get("failures") == "1"
    assert "expected verdict drop" in suite.find(".//failure").get("message")
    assert not json.loads(sluice("test", path, "--output", "json").stdout)["tests"][0]["ok"]
    assert sluice("test", scratch.write("wrong.yaml", "tests: [{ packt: {} }]")).returncode == 2


def test_tests_that_cannot_be_run_say_so_in_json_too(scratch, policy):
    for name, text, said in (("missing.yaml", None, "missing.yaml: No such file or directory"), ("none.yaml", "tests: []\n", "none.yaml: there is no test in it"),
                             ("empty.yaml", "", None),
                             ("lost.yaml", TESTS.replace("policy.yaml", "nowhere.yaml"), "nowhere.yaml"),
                             ("wrong.yaml", "tests: [{ packt: {} }]\n", None)):
        path = scratch.write(name, text) if text is not None else f"{scratch.path}/{name}"
        done = sluice("test", path, "--output", "json", check=2)
        answer = json.loads(done.stdout)
        assert not answer["ok"] and done.stderr, name
        if said:
            assert said in answer["error"] and said in done.stderr and done.stderr.count("\n") == 1
        else:
            assert answer["diagnostics"][0]["file"] == path and done.stderr.startswith(f"{path}:")
        assert sluice("test", path).stdout == ""


# --- plan ---------------------------------------------------------------------------------------


def plan(*arguments, check=0, env=None, cwd=None):
    return json.loads(sluice("plan", *arguments, "--output", "json", env=env, check=check, cwd=cwd).stdout)


def test_plan_tells_changes_layers_and_rules_that_can_never_match(scratch, policy):
    assert plan(policy, "--against", policy)["changes"] == []
    new = scratch.write("new.yaml", POLICY.replace("upstream: old }", "upstream: api }") +
                        "    - { name: late, from: [10.0.0.0/8], to_ports: [23], protocol: tcp }\n"
                        "    - { name: mixed, from: [10.2.0.0/16], except: { from: [10.0.0.0/8] } }\n")
    answer = plan(new, "--against", policy)
    assert [(c["kind"], c["section"], c["name"], c["layer"]) for c in answer["changes"]] == [
        ("changed", "routes", "any", "gateway"), ("added", "guard.rules", "late", "guard"),
        ("added", "guard.rules", "mixed", "guard")]
    assert any("`mixed` can never match" in warning["message"] for warning in answer["warnings"])
    broken = scratch.write("broken.yaml", POLICY.replace("upstream: old }", "upstream: odl }"))
    done = sluice("plan", broken, "--against", policy, check=1)
    assert f"{broken}:13:" in done.stderr


def test_plan_finds_files_of_sets_the_same_by_any_path(scratch):
    scratch.write("drop.txt", "198.51.100.0/24\n")
    path = scratch.write("sets.yaml", POLICY + "sets: { bad: { file: drop.txt } }\n")
    above = os.path.join("..", os.path.basename(scratch.path), "sets.yaml")
    for one, other in (("sets.yaml", "sets.yaml"), (path, "sets.yaml"), ("sets.yaml", path), (path, "./sets.yaml"), (path, above)):
        assert plan(one, "--against", other, cwd=scratch.path)["changes"] == [], (one, other)


def test_plan_warns_before_it_cuts_the_operator_off(scratch, policy):
    ssh = {"SSH_CONNECTION": "198.51.100.8 51000 203.0.113.1 22"}
    new = scratch.write("new.yaml", POLICY + "    - { name: all, from: [198.51.100.0/24] }\n")
    answer = plan(new, "--against", policy, env=ssh, check=3)
    assert len(answer["lock_out"]) == 1 and "dropped by rule `all`" in answer["lock_out"][0]
    assert f"{new}:18:7" in answer["lock_out"][0]
    assert plan(new, "--against", policy, env={"SSH_CONNECTION": "192.0.2.77 5 203.0.113.1 22"})["lock_out"] == []


def test_plan_against_what_runs(serving, scratch):
    running, _, _, text = serving
    new = scratch.write("new.yaml", text.replace("path: /v1", "path: /v2"))
    answer = json.loads(running.ctl("plan", new, "--output", "json").stdout)
    assert [c["name"] for c in answer["changes"]] == ["v1"]
    assert "~  routes   v1" in running.ctl("plan", new).stdout
