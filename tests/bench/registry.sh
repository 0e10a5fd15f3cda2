#!/usr/bin/env bash
# Wharf beside its peers, in one run on one machine: time to ready, memory, pushes, reads.
#
#   bash tests/bench/registry.sh PEER [WHARF]
#
# PEER is the path of a `registry` binary of distribution 3. It is not on a package registry; build it outside of this
# repository:
#
#   git clone https://github.com/distribution/distribution && cd distribution && go build -o /some/where/registry ./cmd/registry
#
# WHARF is the server's binary; without it the tree's own is built. Also needed: wrk, which costs the machine less than the
# server it asks, and nginx, whose file serving is the mark for blobs (Debian: `apt-get install wrk nginx-light`).
#
# Every server runs all the time and is asked in turn, so that whatever else the machine does meets all of them. Prints one
# row a measurement: Wharf, the peer, Wharf / peer. What is compared with something else than the peer says with what. Run
# it twice; only the ratios mean something.
set -euo pipefail

peer=$(realpath "${1:?usage: bash tests/bench/registry.sh PEER [WHARF]}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for program in wrk nginx curl python3; do
    command -v "$program" >/dev/null || { echo "\`$program\` is not installed; hint: apt-get install wrk nginx-light curl python3" >&2; exit 1; }
done
target=${CARGO_TARGET_DIR:-target}
cargo build --release --quiet --package wharf-tests --package wharf-store --example load --example blob_write
if [ $# -ge 2 ]; then
    wharf=$(realpath "$2")
else
    cargo build --release --quiet --package wharf
    wharf=$target/release/wharf
fi

readonly READ_S=8 IMAGES=1000 BIG=bench/big
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT
port=$((20000 + RANDOM % 20000))
declare -A url=([wharf]="http://127.0.0.1:$port" [peer]="http://127.0.0.1:$((port + 1))" [nginx]="http://127.0.0.1:$((port + 2))")
declare -A login=([wharf]="" [peer]="")
: >"$work/results"

# note NAME WHAT VALUE: one figure of one server.
note() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$work/results"; }

# start NAME COMMAND…: starts a server and notes the milliseconds until it answers.
start() {
    local name=$1 begun
    shift
    begun=$(date +%s%N)
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    echo $! >"$work/$name.pid"
    until curl -s -o /dev/null "${url[$name]}/v2/"; do sleep 0.002; done
    [ "$name" = nginx ] || note "$name" "start to the first answer, ms" $((($(date +%s%N) - begun) / 1000000))
}
# rss NAME FIELD: VmRSS or VmHWM in MB.
rss() { awk -v field="$2:" '$1 == field {print int($2 / 1024)}' "/proc/$(cat "$work/$1.pid")/status"; }

# get NAME WHAT CONNECTIONS PATH [HEADER]: reads for a while. A `%d` in the path goes over the images.
get() {
    local name=$1 what=$2 connections=$3 rate p99 mb failed
    wrk -t2 -c"$connections" -d"${READ_S}s" --timeout 20s -s tests/bench/read.lua ${5:+-H "$5"} "${url[$name]}" -- "$4" "$IMAGES" >"$work/wrk"
    read -r rate p99 mb failed < <(tail -n 1 "$work/wrk")
    [ "$failed" -eq 0 ] || { cat "$work/wrk" >&2; echo "$name: $what: $failed requests failed" >&2; exit 1; }
    note "$name" "$what, /s" "$rate"
    note "$name" "$what, p99 ms" "$p99"
    [ "$connections" -ne 8 ] || note "$name" "$what, MB/s" "$mb"
}
# load NAME KIND WHAT [PATH]: runs the load client.
load() {
    local rate p99 mb
    "$target/release/examples/load" "$2" "${url[$1]}${4-}" ${login[$1]:+"${login[$1]}"} >"$work/load"
    read -r rate p99 mb <"$work/load"
    note "$1" "$3, /s" "$rate"
    note "$1" "$3, p99 ms" "$p99"
    [ "$2" != blobs ] || note "$1" "$3, MB/s" "$mb"
}

# rest: waits until Wharf has scanned what was pushed; its peer does nothing with it.
rest() {
    until curl -sf -u "${login[wharf]}" "${url[wharf]}/api/v1/status" |
        python3 -c 'import json, sys; sys.exit(any(q["live"] for q in json.load(sys.stdin)["queues"] if q["queue"] == "scan"))'; do
        sleep 1
    done
}

# The first start makes keys and tables; what counts is the second.
timeout 5 "$wharf" serve --data "$work/wharf" --listen "127.0.0.1:$port" >/dev/null 2>&1 || true
start wharf "$wharf" serve --data "$work/wharf" --listen "127.0.0.1:$port"
printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%d"}\n' \
    "$work/peer" $((port + 1)) >"$work/peer.yml"
start peer "$peer" serve "$work/peer.yml"
login[wharf]="admin:$(cat "$work/wharf/initial-admin-password")"
WHARF_SERVER=${url[wharf]} WHARF_USER=admin WHARF_PASSWORD=${login[wharf]#admin:} "$wharf" grant add anonymous read 'bench/**' >/dev/null
sleep 2
for name in wharf peer; do note "$name" "resident, idle, MB" "$(rss "$name" VmRSS)"; done

for name in wharf peer; do load "$name" images "push of small images, 16 clients"; done
rest

token=$(curl -sf -u "${login[wharf]}" "${url[wharf]}/token?service=bench&scope=repository:bench/app0:pull" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
basic="Authorization: Basic $(printf %s "${login[wharf]}" | base64 -w0)"
digest=$(curl -sf -u "${login[wharf]}" "${url[wharf]}/v2/bench/app0/manifests/1" -H 'Accept: */*' |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][0]["digest"])')
for name in wharf peer; do
    get "$name" "manifest GET, 32 connections" 32 /v2/bench/app%d/manifests/1
    load "$name" heads "blob HEAD, 32 connections" "/v2/bench/app0/blobs/$digest"
done
# The peer is asked without: its own tokens come from another server.
what="manifest GET with a token, 32 connections"
get wharf "$what" 32 /v2/bench/app0/manifests/1 "Authorization: Bearer $token"
get peer "$what" 32 /v2/bench/app0/manifests/1
what="manifest GET with a password, 32 connections"
get wharf "$what" 32 /v2/bench/app%d/manifests/1 "$basic"
get peer "$what" 32 /v2/bench/app%d/manifests/1

for name in wharf peer; do load "$name" blobs "blob push 10 MB, 8 clients"; done
floor=$("$target/release/examples/blob_write" "$work" | awk '/^write:/ && $3 > most {most = $3} END {print most}')
note floor "blob push 10 MB, 8 clients, MB/s" "$floor"

mkdir -p "$work/files"
printf 'daemon off; user %s %s; pid %s/nginx.pid; error_log stderr; worker_processes 2; events {}\nhttp { access_log off; sendfile on; tcp_nopush on; server { listen 127.0.0.1:%d; root %s/files; location /v2/ { return 200; } } }\n' \
    "$(id -un)" "$(id -gn)" "$work" $((port + 2)) "$work" >"$work/nginx.conf"
start nginx nginx -e stderr -c "$work/nginx.conf"
for size in 10 100; do
    head -c "${size}000000" /dev/urandom >"$work/files/$size"
    digest=sha256:$(sha256sum "$work/files/$size" | cut -d' ' -f1)
    for name in wharf peer; do
        place=$(curl -sf -u "${login[$name]:-none:}" -X POST -D - -o /dev/null "${url[$name]}/v2/$BIG/blobs/uploads/" |
            tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
        case $place in /*) place=${url[$name]}$place ;; esac
        case $place in *\?*) place="$place&digest=$digest" ;; *) place="$place?digest=$digest" ;; esac
        curl -sf -u "${login[$name]:-none:}" -X PUT -T "$work/files/$size" -H 'Expect:' -o /dev/null "$place"
    done
    what="blob GET $size MB, 8 connections"
    get wharf "$what" 8 "/v2/$BIG/blobs/$digest"
    get nginx "$what" 8 "/$size"
    get peer "$what" 8 "/v2/$BIG/blobs/$digest"
done
for name in wharf peer; do note "$name" "resident, most, MB" "$(rss "$name" VmHWM)"; done

python3 - "$work/results" "$(cut -d' ' -f1-3 /proc/loadavg)" <<'PYTHON'
import sys
figures = {}
for line in open(sys.argv[1]):
    name, what, value = line.rstrip("\n").split("\t")
    figures.setdefault(what, {})[name] = float(value)
print(f"{'what':52} {'wharf':>10} {'peer':>10} {'ratio':>7}")
for what, of in figures.items():
    if "wharf" not in of:
        continue
    row = f"{what:52} {of['wharf']:10.1f} {of['peer']:10.1f} {of['wharf'] / of['peer']:7.2f}"
    for other in ("floor", "nginx"):
        if other in of:
            row += f"   {other} {of[other]:.0f}, ratio {of['wharf'] / of[other]:.2f}"
    print(row)
print(f"load of the machine at the end: {sys.argv[2]}")
PYTHON
