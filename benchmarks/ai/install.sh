#!/usr/bin/env bash
# Installs the AI gateways that benchmarks/ai/ai.py compares with: Portkey from npm, LiteLLM's proxy from PyPI.
#   benchmarks/ai/install.sh [DIRECTORY]      default: build/ai-peers
# LiteLLM 1.82.7 and 1.82.8 carried malware, and of 1.107.0 the same is said: leave the version as it is, or look it up. What is
# installed here runs in a network namespace without a way out. No script of a package is run.
set -euo pipefail
cd "$(dirname "$0")/../.."
case ${1:-} in -h | --help) sed -n '2,5s/^# \{0,1\}//p' benchmarks/ai/install.sh; exit 0 ;; esac
directory=${1:-build/ai-peers}
portkey=1.15.2 litellm=1.93.0
mkdir -p "$directory"
if [ ! -f "$directory/node_modules/@portkey-ai/gateway/package.json" ]; then
  # The version of its own lock file: with a later one every stream fails (Portkey-AI/gateway#1389).
  cat >"$directory/package.json" <<END
{ "private": true, "dependencies": { "@portkey-ai/gateway": "$portkey" }, "overrides": { "@hono/node-server": "1.13.5" } }
END
  npm install --ignore-scripts --no-audit --no-fund --prefix "$directory"
fi
if [ ! -x "$directory/litellm/bin/litellm" ]; then
  python3 -m venv "$directory/litellm"
  "$directory/litellm/bin/pip" install -q --only-binary :all: "litellm[proxy]==$litellm"
fi
