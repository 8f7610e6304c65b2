#!/usr/bin/env bash
# Prints the path of the AT Protocol relay that the tests start. Builds it once (about 4 minutes on two cores; needs a
# C compiler, for SQLite) into the cache outside the checkout, under its version; later calls find it there. Fails,
# with the reason, when it can't.
set -euo pipefail

version=v0.0.0-20260605210604-af2fec94f34c
cache="${ALLUVIUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alluvium}/relay/$version"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -x "$cache/relay" ]; then
    echo "building the relay $version (once)" >&2
    staging="$cache/staging.$$"
    GOBIN="$staging" CGO_ENABLED=1 go install "github.com/bluesky-social/indigo/cmd/relay@$version" >&2
    mv "$staging/relay" "$cache/relay"
    rmdir "$staging"
fi
echo "$cache/relay"
