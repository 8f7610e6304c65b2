#!/usr/bin/env bash
# Prints the folder that holds the packages of network/network.mjs, a PLC directory and a PDS for the tests. Installs
# them once (about 2 minutes: SQLite is compiled) into the cache outside the checkout, under the hash of the lock file;
# later calls find them there. Fails, with the reason, when it can't.
set -euo pipefail
cd "$(dirname "$0")/network"

name="$({ node --version && cat package.json package-lock.json; } | sha256sum | cut -c1-16)"
cache="${ALLUVIUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alluvium}/network/$name"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -e "$cache/complete" ]; then
    echo "installing a PLC directory and a PDS (once)" >&2
    rm -rf "$cache/node_modules"
    cp package.json package-lock.json "$cache"
    npm ci --prefix "$cache" --no-audit --no-fund --loglevel=error >&2
    (cd "$cache" && node -e 'new (require("better-sqlite3"))(":memory:")') >&2
    touch "$cache/complete"
fi
echo "$cache"
