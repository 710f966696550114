"""The vendors' own SDKs as callers, unmodified but for the base URL, against each provider's stand-in. What works is a table in
docs/ai.md, which this test holds (SLUICE_WRITE_REFERENCE=1 writes it)."""
import json
import os
import re
import shutil
import subprocess

import pytest

from ai_client import KINDS, Gateway
from harness import SLUICE, Scratch, eventually

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ai_sdk")
DOCS = os.path.join(HERE, "../../../docs/ai.md")
BEGIN, END = "<!-- sdk table: written by tests/system/test_ai_sdk.py -->\n", "<!-- end of the sdk table -->\n"


@pytest.fixture(scope="module")
def sdks():
    """A directory with the SDKs in the versions of package-lock.json; CMake's fixture makes it beforehand."""
    given = os.environ.get("NODE_SDKS")
    if given and os.path.isdir(os.path.join(given, "node_modules/openai")):
        yield given
        return
    with Scratch() as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(HERE, name), scratch.path)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=scratch.path, check=True, timeout=280)
        yield scratch.path


def table(results):
    sdk_names = list(dict.fromkeys(r["sdk"] for r in results))
    cells = list(dict.fromkeys(r["cell"] for r in results))
    lines = ["| SDK | " + " | ".join(cells) + " |", "|---|" + "---|" * len(cells)]
    for sdk in sdk_names:
        row = []
        for cell in cells:
            of_cell = [r for r in results if r["sdk"] == sdk and r["cell"] == cell]
            bad, none = ([r["model"].removesuffix("-model") for r in of_cell if r[what]] for what in ("failure", "none"))
            having = [r["model"].removesuffix("-model") for r in of_cell if not r["none"]]
            row.append("–" if not of_cell else "not " + ", ".join(bad) if bad else "all" if not none else
                       "all but " + ", ".join(none) if len(none) < len(having) else ", ".join(having))
        lines.append(f"| `{sdk}` | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def test_every_sdk_reaches_every_provider(sdks):
    with Scratch() as scratch:
        models = "\n".join(f"    {kept}{kind}-model: {{ targets: [{{ provider: {kind} }}] }}" for kind in KINDS for kept in ("", "kept-"))
        gateway = Gateway(scratch, models=models, keys="required", more='  cache: { ttl: 1h, models: ["kept-*"] }')
        made = subprocess.run([SLUICE, "keys", "create", "--name", "sdk", "--policy", gateway.sluice.policy], capture_output=True, text=True, check=True)
        key = made.stdout.strip()
        eventually(lambda: gateway.request("GET", "/v1/models", headers={"authorization": f"Bearer {key}"})[0] == 200, "the key is known")
        done = subprocess.run(["node", os.path.join(HERE, "cells.mjs"), f"http://127.0.0.1:{gateway.port}", key, *(f"{k}-model" for k in KINDS)],
                              env={**os.environ, "NODE_SDKS": sdks}, capture_output=True, text=True, timeout=280)
        results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) > 150, done.stderr
    failed = [f"{r['sdk']} {r['model']} {r['cell']}: {r['failure']}" for r in results if r["failure"]]
    assert not failed, "\n\n".join(failed)
    with open(DOCS) as file:
        docs = file.read()
    written = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: BEGIN + table(results) + END, docs, flags=re.S)
    if os.environ.get("SLUICE_WRITE_REFERENCE"):
        with open(DOCS, "w") as file:
            file.write(written)
    assert written == docs or os.environ.get("SLUICE_WRITE_REFERENCE"), "run it with SLUICE_WRITE_REFERENCE=1"
