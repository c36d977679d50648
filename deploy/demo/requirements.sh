#!/bin/sh
# Brings a fresh clone to where the demo and the tests can start: npm packages, programs of the system, the build. Each step
# is skipped when it is done already. Everything is said on stderr, so that the caller's stdout stays its own.
set -eu
cd "$(dirname "$0")/../.."
exec >&2

fail() {
  echo "$1"
  exit 1
}

command -v node > /dev/null || fail 'Missing: node. Install Node.js 20 or newer.'
command -v npm > /dev/null || fail 'Missing: npm. Install the one that belongs to Node.js 20 or newer.'
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || fail "Node.js $(node --version) is too old: install version 20 or newer."
[ "$(id -u)" -eq 0 ] || fail 'Network namespaces can only be made by root: run it as root, for example with sudo.'

# npm writes this file at the end of every install. Scripts are left out: the compiler that ours needs may be missing yet. Not
# `npm ci`: that refuses a lock file without the tools' binaries for other platforms, which not every registry has.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'installing npm packages'
  npm install --no-save --ignore-scripts --no-audit --no-fund
fi

# The table of programs is TypeScript, and the compiler of that needs nothing but Node.js.
node_modules/.bin/tsc -b
node dist/test/lab/main.js requirements --install
node agent/native/build.mjs --if-missing
