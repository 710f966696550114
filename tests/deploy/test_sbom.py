"""The bill of materials: well-formed SPDX 2.3, and of what the binary loads nothing is missing."""
import hashlib
import json
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLUICE = pathlib.Path(os.environ.get("SLUICE", str(ROOT / "build/ci/sluice"))).resolve()
VERSION = re.search(r"VERSION (\d+\.\d+\.\d+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
# SPDX 2.3, clauses 6, 7 and 11: what must be there, and what else may.
DOCUMENT = {"spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo", "packages", "relationships"}
PACKAGE = {"SPDXID", "name", "downloadLocation"}
PACKAGE_MAY = PACKAGE | {"versionInfo", "supplier", "sourceInfo", "filesAnalyzed", "checksums", "licenseConcluded", "licenseDeclared",
                         "copyrightText", "externalRefs", "primaryPackagePurpose"}


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=True, **more).stdout


@pytest.fixture(scope="module")
def bill():
    out = run(str(ROOT / "deploy/sbom.sh"), str(SLUICE), VERSION, str(SLUICE.parent))
    return json.loads(out, object_pairs_hook=lambda pairs: dict(pairs) if len({k for k, _ in pairs}) == len(pairs) else pytest.fail("a key twice"))


def test_it_is_spdx(bill):
    assert set(bill) == DOCUMENT and bill["spdxVersion"] == "SPDX-2.3" and bill["dataLicense"] == "CC0-1.0"
    assert bill["SPDXID"] == "SPDXRef-DOCUMENT" and re.fullmatch(r"https://[^#]+", bill["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", bill["creationInfo"]["created"])
    assert all(re.fullmatch(r"(Tool|Organization|Person): .+", creator) for creator in bill["creationInfo"]["creators"])
    ids = [package["SPDXID"] for package in bill["packages"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one) for one in ids)
    for package in bill["packages"]:
        assert PACKAGE <= set(package) <= PACKAGE_MAY
        assert package["filesAnalyzed"] is False and re.fullmatch(r"Organization: .+", package["supplier"])
        for reference in package.get("externalRefs", []):
            assert re.fullmatch(r"pkg:deb/debian/[a-z0-9.+-]+@[^@?:~+ ]+\?arch=[a-z0-9]+&distro=debian-\d+", reference["referenceLocator"])
    known = {*ids, "SPDXRef-DOCUMENT"}
    for relation in bill["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= known
    related = {one for relation in bill["relationships"] for one in (relation["spdxElementId"], relation["relatedSpdxElement"])}
    assert related == known, "each is there for a reason"


def test_what_is_loaded_is_listed_as_it_is_installed(bill):
    by_id = {package["SPDXID"]: package for package in bill["packages"]}
    linked = {by_id[r["relatedSpdxElement"]]["name"]: by_id[r["relatedSpdxElement"]]["versionInfo"]
              for r in bill["relationships"] if r["relationshipType"] == "DYNAMIC_LINK"}
    for name, version in linked.items():
        assert run("dpkg-query", "-W", "-f", "${Version}\n", name).splitlines()[0] == version
    libraries = re.findall(r"(/\S+)", run("ldd", str(SLUICE)))
    assert len(libraries) > 10
    for library in libraries:
        path = os.path.realpath(library)
        owner = next(done.stdout for name in (path, path.removeprefix("/usr")) if
                     (done := subprocess.run(["dpkg", "-S", name], capture_output=True, text=True, check=False)).returncode == 0)
        assert owner.split(":")[0] in linked, f"{library} of {owner}"
    assert any(package["name"].startswith("libboost") for package in bill["packages"]), "compiled in, and loaded by nobody"
    assert not any("gtest" in package["name"] for package in bill["packages"]), "the tests' alone"
    me = by_id["SPDXRef-Package-sluice"]
    assert me["versionInfo"] == VERSION and me["checksums"][0]["checksumValue"] == hashlib.sha256(SLUICE.read_bytes()).hexdigest()


def test_the_image_has_it(tmp_path):
    binary = tmp_path / "sluice"
    binary.write_bytes(SLUICE.read_bytes())
    binary.chmod(0o755)
    (tmp_path / "sluice.spdx.json").write_text("{}")
    run(str(ROOT / "deploy/container/collect.sh"), str(binary), str(tmp_path / "root"))
    assert (tmp_path / "root/usr/share/doc/sluice/sluice.spdx.json").read_text() == "{}"
