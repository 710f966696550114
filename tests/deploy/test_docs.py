"""What the documents name is there: commands, options, metrics, files. Links lead somewhere."""
import json
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLUICE = os.environ.get("SLUICE", str(ROOT / "build/ci/sluice"))
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    text = subprocess.run([SLUICE, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  ([a-z]+) ", text, re.M))


def named_in_code(page):
    """Inline code and blocks of shell."""
    text = page.read_text()
    return re.findall(r"`([^`\n]+)`", text) + [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_commands(page):
    known = commands()
    for code in named_in_code(page):
        for name in re.findall(r"^sluice ([a-z]+)\b", code):
            assert name in known, f"`{code}`: there is no command {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_policies_are_policies(page, tmp_path):
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
        if not re.search(r"^version: 1$", block, re.M):
            continue  # a part of one
        path = tmp_path / "policy.yaml"
        path.write_text(block)
        done = subprocess.run([SLUICE, "check", str(path)], capture_output=True, text=True, check=False,
                              env={**os.environ, "GEMINI_API_KEY": "x", "OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "x"})
        assert done.returncode == 0, done.stdout + done.stderr


def test_reasons_of_the_troubleshooting_page_are_said():
    page = (ROOT / "docs/troubleshooting.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "gateway").glob("**/*.cc"))
    rows = re.findall(r"^\| (?:\d{3}(?:, )?)+ \| (.*?) \|", page[page.index("## A request is refused"):page.index("## It is slow")], re.M)
    assert len(rows) > 10
    for row in rows:
        for reason in row.split(", "):
            for part in re.split("NAME|…", reason):
                assert part.strip() in source, f"nothing says `{part.strip()}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_are_exported(page):
    exported = set(re.findall(r'"(sluice_[a-z0-9_]+)"', "".join(
        path.read_text() for part in ("gateway", "kernel") for path in (ROOT / part).glob("**/*.[ch]*"))))
    for name in set(re.findall(r"`(sluice_[a-z0-9_]+?)(?:_bucket|_sum|_count)?[`{]", page.read_text())):
        if not re.search(r"sluice_(policy|gateway|kernel|keeper_protocol)$", name):  # targets of the build
            assert name in exported, f"{name} is no metric"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_tree_are_there(page):
    for target in re.findall(r"`((?:deploy|tests|benchmarks|docs)/[\w./-]+)`", page.read_text()):
        assert (ROOT / target.rstrip("/")).exists(), f"{target} is not there"


def test_what_install_md_builds_is_what_cpack_takes(tmp_path):
    """Ninja's CPack builds nothing: whatever is installed of the build directory is made by the preset `release`."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "docs/install.md").read_text(), re.S))
    assert "cmake --build --preset release" in shell
    presets = json.loads((ROOT / "CMakePresets.json").read_text())["buildPresets"]
    targets = next(preset for preset in presets if preset["name"] == "release")["targets"]
    configured = subprocess.run(["cmake", "--preset", "release", "-B", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert configured.returncode == 0, configured.stderr
    script = "".join(path.read_text() for path in tmp_path.glob("**/cmake_install.cmake"))
    installed = set(re.findall(rf'"{re.escape(str(tmp_path))}/([^"]+)"', script.replace("cmake_install.cmake", "")))
    files = {file for file in installed if re.match(r"installed/[\w.]+$|sluice$|sluice\.spdx\.json$", file)}
    assert len(files) >= 6
    commands = subprocess.run(["ninja", "-C", str(tmp_path), "-t", "commands", *targets], capture_output=True, text=True, check=True).stdout
    for file in files:
        assert re.search(rf"(-o |/){re.escape(file)}['\\s]", commands), f"{file} is not made by the targets {targets}"
