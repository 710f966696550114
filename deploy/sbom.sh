#!/usr/bin/env bash
# What a binary is made of, as SPDX 2.3 in JSON, from Debian's own records: the libraries that it loads, and (with the build
# directory of Ninja) the packages whose headers were compiled into it.   sbom.sh BINARY VERSION [BUILD_DIRECTORY] >sluice.spdx.json
set -euo pipefail
export LC_ALL=C
binary=$1 version=$2 build=${3:-}

# Files on standard input, one a line; their packages, each once. Where /lib is a link into /usr, dpkg may know either name.
packages_of() {
  while read -r file; do
    printf '%s\n' "$file"
    case $file in /usr/lib*) printf '%s\n' "${file#/usr}" ;; /lib*) printf '/usr%s\n' "$file" ;; esac
  done | { xargs -r dpkg -S 2>/dev/null || true; } | sed -n 's/^\([^ ,]*\)\(, .*\)\?: \/.*/\1/p' | sort -u
}

libraries() { ldd "$binary" | grep -o '/[^ ]*' | while read -r file; do readlink -f "$file"; done | sort -u; }
# Of every object but the tests' and benchmarks'.
headers() {
  [ -z "$build" ] || ninja -C "$build" -t deps 2>/dev/null |
    awk '/^[^ ]/ { ours = $1 !~ /^(tests|benchmarks)\// } ours && $1 ~ /^\/usr\/include\// { print $1 }' | sort -u || true
}

json() { printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'; }
id_of() { printf 'SPDXRef-Package-%s' "$(printf '%s' "$1" | tr -c 'A-Za-z0-9.-' '-')"; }

distribution=$(. /etc/os-release && printf '%s-%s' "$ID" "${VERSION_ID:-}")
checksum=$(sha256sum "$binary" | cut -d' ' -f1)
loaded=$(libraries | packages_of)
compiled=$(headers | packages_of | grep -vxF "$loaded" || true)

package() {
  local name shown arch source source_version purl
  IFS=$'\t' read -r name shown arch source source_version < <(
    dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n' "$1")
  purl="pkg:deb/debian/$name@$(printf '%s' "$shown" | sed 's/+/%2B/g; s/:/%3A/g; s/~/%7E/g')?arch=$arch&distro=$distribution"
  printf ',\n    {"SPDXID": "%s", "name": "%s", "versionInfo": "%s", "supplier": "Organization: Debian",\n' "$(id_of "$1")" "$(json "$name")" "$(json "$shown")"
  printf '     "sourceInfo": "built package from: %s %s", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,\n' "$(json "$source")" "$(json "$source_version")"
  printf '     "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION", "copyrightText": "NOASSERTION",\n'
  printf '     "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "%s"}]}' "$(json "$purl")"
}

cat <<JSON
{
  "spdxVersion": "SPDX-2.3",
  "dataLicense": "CC0-1.0",
  "SPDXID": "SPDXRef-DOCUMENT",
  "name": "sluice-$version",
  "documentNamespace": "https://sluice.example.org/spdx/sluice-$version-$checksum",
  "creationInfo": {"created": "$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%dT%H:%M:%SZ)", "creators": ["Tool: sluice-sbom"]},
  "packages": [
    {"SPDXID": "SPDXRef-Package-sluice", "name": "sluice", "versionInfo": "$version", "supplier": "Organization: The Sluice authors",
     "primaryPackagePurpose": "APPLICATION", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
     "checksums": [{"algorithm": "SHA256", "checksumValue": "$checksum"}],
     "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0", "copyrightText": "NOASSERTION"}
JSON
for name in $loaded $compiled; do package "$name"; done
printf '\n  ],\n  "relationships": [\n'
printf '    {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Package-sluice"}'
for name in $loaded; do
  printf ',\n    {"spdxElementId": "SPDXRef-Package-sluice", "relationshipType": "DYNAMIC_LINK", "relatedSpdxElement": "%s"}' "$(id_of "$name")"
done
for name in $compiled; do
  printf ',\n    {"spdxElementId": "%s", "relationshipType": "BUILD_DEPENDENCY_OF", "relatedSpdxElement": "SPDXRef-Package-sluice"}' "$(id_of "$name")"
done
printf '\n  ]\n}\n'
