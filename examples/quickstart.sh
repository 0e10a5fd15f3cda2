#!/usr/bin/env bash
# Wharf's main job on this machine, in one command: push, scan, judge, promote, and a policy replaced live.
#   bash examples/quickstart.sh [--keep]
# Installs what is missing (as root or by sudo), builds, serves on loopback, and cleans up; --keep leaves the server running.
# The advisories are made up by this project (examples/quickstart/advisories.json says so): they are not real vulnerabilities.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keep=no
case "${1-}" in
    "") ;;
    --keep) keep=yes ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
missing() { ! command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

work=$(mktemp -d)
server=""
cleanup() {
    local status=$?
    if [ "$keep" = yes ] && [ "$status" = 0 ]; then
        say "The server stays: $WHARF_SERVER, user admin, password in $work/data/initial-admin-password"
        echo "Stop it with: kill $server; rm -r $work"
        return
    fi
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        [ "$status" = 0 ] || tail -n 20 "$work/server.log"
    fi
    rm -rf "$work"
}
trap cleanup EXIT

say "1. Install what is missing, and build"
if missing cargo; then
    echo "cargo is missing; hint: install Rust by rustup, then run this again" >&2
    exit 1
fi
if missing skopeo; then
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends skopeo
fi
rustup target add wasm32-wasip2
cargo build --release --package wharf
cargo build --profile plugin --target wasm32-wasip2 --package criteria
cargo build --release --target wasm32-wasip2 --manifest-path examples/policy-rust/Cargo.toml --workspace \
    --target-dir target/policy-rust
wharf=$PWD/target/release/wharf
policies=target/policy-rust/wasm32-wasip2/release

say "2. Make three versions of an image"
. /etc/os-release
if missing apt-get || [ "${ID-}" != debian ]; then
    image() { skopeo copy -q "docker://docker.io/library/debian:12-slim" "oci:$work/image:$1"; }
else
    [ -n "$(apt-cache policy hello 2>/dev/null)" ] || as_root apt-get update -qq
    image() { bash examples/debian-image.sh "$work/image:$1" "base-files libc6 zlib1g" "$2"; }
fi
image 1.0 "sed hello"
image 1.1 "sed"
image 1.2 "sed grep"

say "3. Serve on loopback"
mkdir -p "$work/data"
"$wharf" serve --data "$work/data" --listen 127.0.0.1:0 >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 300); do
    WHARF_SERVER=$(sed -n 's/.*listening on \(http[^ ]*\).*/\1/p' "$work/server.log" | head -n 1)
    [ -z "$WHARF_SERVER" ] || break
    sleep 0.1
done
WHARF_USER=admin
WHARF_PASSWORD=$(cat "$work/data/initial-admin-password")
export WHARF_SERVER WHARF_USER WHARF_PASSWORD
host=${WHARF_SERVER#http://}
"$wharf" status
