#!/usr/bin/env bash
# Prints the path of the MinIO server that the tests start. Builds it once (5 to 10 minutes on two cores) into the
# cache outside the checkout, under its version; later calls find it there. Fails, with the reason, when it can't.
set -euo pipefail

version=v0.0.0-20260212201848-7aac2a2c5b7c
cache="${ALLUVIUM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alluvium}/minio/$version"

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -x "$cache/minio" ]; then
    echo "building MinIO $version (once)" >&2
    staging="$cache/staging.$$"
    GOBIN="$staging" GOFLAGS=-trimpath CGO_ENABLED=0 go install "github.com/minio/minio@$version" >&2
    mv "$staging/minio" "$cache/minio"
    rmdir "$staging"
fi
echo "$cache/minio"
