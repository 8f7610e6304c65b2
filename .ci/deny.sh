#!/usr/bin/env bash
# Checks licences, banned and duplicate crates, and sources of every dependency (.cargo/deny.toml), and known
# vulnerabilities if a copy of the advisory database is on this machine. Builds cargo-deny once into the cache.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
cache="${ALLUVIUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alluvium}/cargo-deny/$version"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -x "$cache/bin/cargo-deny" ]; then
    echo "building cargo-deny $version (once)" >&2
    CARGO_TARGET_DIR="$cache/target" cargo install --quiet --locked --root "$cache" --version "=$version" cargo-deny
    rm -rf "$cache/target"
fi
flock -u 9

"$cache/bin/cargo-deny" --locked check licenses bans sources
if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
    "$cache/bin/cargo-deny" --locked check --disable-fetch advisories
else
    echo "advisories: not checked, no copy of the database is on this machine" >&2
fi
