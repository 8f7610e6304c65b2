#!/usr/bin/env bash
# Prints the path of a Python that has the ADBC Flight SQL driver. Makes its environment once, in the cache outside
# the checkout, under a name that holds every pinned version; later calls find it there.
set -euo pipefail

pins=(adbc-driver-flightsql==1.13.0 adbc-driver-manager==1.13.0 pyarrow==26.0.1)
name="$(printf '%s\n' "$(python3 --version)" "${pins[@]}" | sha256sum | cut -c1-16)"
cache="${ALLUVIUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alluvium}/adbc/$name"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -e "$cache/complete" ]; then
    echo "installing ${pins[*]} (once)" >&2
    rm -rf "$cache/venv"
    python3 -m venv "$cache/venv" >&2
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "${pins[@]}" >&2
    "$cache/venv/bin/python" -c 'import adbc_driver_flightsql.dbapi, pyarrow' >&2
    touch "$cache/complete"
fi
echo "$cache/venv/bin/python"
