"""docs/ai-tutorial.md, as it is written: its policy and its commands, with a stand-in where Google would be."""
import json
import os
import re
import subprocess

from ai_vendors import Gemini
from harness import HANG, SLUICE, Sluice, eventually, free_port

TUTORIAL = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "ai-tutorial.md")


def test_two_steps_from_nothing_to_an_answer(scratch, monkeypatch):
    text = open(TUTORIAL).read()
    policy = re.search(r"<<'END'\n(.*?)\nEND\n", text, re.S).group(1)
    vendor = Gemini(scratch, "gemini", key="of-google")
    port = free_port()
    monkeypatch.setenv("GEMINI_API_KEY", vendor.key)
    monkeypatch.chdir(scratch.path)
    sluice = Sluice(scratch, policy.replace("kind: gemini,", f'kind: gemini, base_url: "http://127.0.0.1:{vendor.port}",')
                    .replace(":8080", f":{port}").replace("./state", f"{scratch.path}/state"), name="ai")
    create = re.search(r"\$\(sluice (keys create .*?)\)", text).group(1).split()
    create[create.index("ai.yaml")] = sluice.policy
    key = subprocess.run([SLUICE, *create], capture_output=True, text=True, timeout=HANG, check=True).stdout.strip()
    assert key.startswith("sk-sluice-")
    environment = {**os.environ, "OPENAI_API_KEY": key, "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    commands = re.findall(r"^(curl \$OPENAI_BASE_URL(?:/chat/completions|/responses).*?(?:\\\n.*)?)$", text, re.M)
    assert len(commands) == 2, commands

    def run(command):
        return json.loads(subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=HANG, env=environment, check=True).stdout)

    eventually(lambda: "error" not in run(commands[0]), "the key is known")
    words = "".join(vendor.words())
    assert run(commands[0])["choices"][0]["message"]["content"] == words
    assert run(commands[1])["output"][0]["content"][0]["text"] == words
    assert vendor.calls[-1]["path"] == "/v1beta/models/gemini-2.5-flash:generateContent"
    listed = run("curl -s $OPENAI_BASE_URL/models -H \"Authorization: Bearer $OPENAI_API_KEY\"")
    assert [model["id"] for model in listed["data"]] == ["fast"]
