#!/usr/bin/env bash
# Wharf beside a peer, in one run on one machine: time to ready, idle and loaded memory, pushes and reads a second.
#   bash tests/bench/registry.sh PEER
# PEER is the path of a `registry` binary of distribution 3; without one, only Wharf is measured. Prints one table row a
# measurement with the ratio Wharf / peer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

peer=${1-}
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

cargo build --release --quiet --package wharf
cargo build --release --quiet --package wharf-tests --example load
port=$((20000 + RANDOM % 20000))

# start NAME URL COMMAND…: starts a server, prints the milliseconds until it answers.
start() {
    local name=$1 url=$2 begun
    shift 2
    begun=$(date +%s%N)
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    echo $! >"$work/$name.pid"
    until curl -s -o /dev/null "$url/v2/"; do sleep 0.002; done
    echo $((($(date +%s%N) - begun) / 1000000)) >"$work/$name.ready"
}
# rss NAME FIELD: VmRSS or VmHWM in MB.
rss() { awk -v field="$2:" '$1 == field {print int($2 / 1024)}' "/proc/$(cat "$work/$1.pid")/status"; }
measure() {
    sleep 2
    rss "$1" VmRSS >"$work/$1.idle"
    target/release/examples/load "${@:2}" >"$work/$1.json"
    rss "$1" VmHWM >"$work/$1.peak"
}

# The first start makes keys and tables; what counts is the second.
timeout 5 target/release/wharf serve --data "$work/wharf" --listen "127.0.0.1:$port" >/dev/null 2>&1 || true
start wharf "http://127.0.0.1:$port" target/release/wharf serve --data "$work/wharf" --listen "127.0.0.1:$port"
measure wharf "http://127.0.0.1:$port" "admin:$(cat "$work/wharf/initial-admin-password")"
kill "${pids[0]}" && wait "${pids[0]}" || true
pids=()
if [ -n "$peer" ]; then
    port=$((port + 1))
    printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%d"}\n' \
        "$work/peer" "$port" >"$work/peer.yml"
    start peer "http://127.0.0.1:$port" "$peer" serve "$work/peer.yml"
    measure peer "http://127.0.0.1:$port"
fi

python3 - "$work" <<'PYTHON'
import json, pathlib, sys
work = pathlib.Path(sys.argv[1])
def lines(name):
    path = work / f"{name}.json"
    return {m["measurement"]: m for m in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
def figure(name, what):
    path = work / f"{name}.{what}"
    return int(path.read_text()) if path.exists() else None
ours, peers = lines("wharf"), lines("peer")
print(f"{'what':36} {'wharf':>12} {'peer':>12} {'ratio':>7}")
def row(what, a, b):
    print(f"{what:36} {a:12.1f} " + (f"{b:12.1f} {a / b:7.2f}" if b else f"{'-':>12} {'-':>7}"))
for what, unit in (("ready", "ms"), ("idle", "MB resident"), ("peak", "MB resident")):
    row(f"{what}, {unit}", figure("wharf", what), figure("peer", what))
for name, m in ours.items():
    p = peers.get(name, {})
    row(f"{name}, /s", m["per_second"], p.get("per_second"))
    row("    p99, ms", m["p99_ms"], p.get("p99_ms"))
PYTHON
