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
hint() { printf '%s; hint: %s\n' "$1" "$2" >&2; exit 1; }
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    if missing sudo; then hint "'$*' is for root, and there is no sudo" "run it as root, then run this again"; fi
    sudo "$@"
}

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
for tool in cargo rustup; do
    if missing "$tool"; then
        # A distribution's own cargo has no targets for WebAssembly, and no way to add them.
        hint "$tool is missing" "install Rust by rustup (https://rustup.rs), then run this again"
    fi
done
if missing skopeo; then
    if missing apt-get; then hint "skopeo is missing, and there is no apt-get to install it by" "install it, then run this again"; fi
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends skopeo
fi
rustup target add wasm32-unknown-unknown wasm32-wasip2
cargo build --release --package wharf
cargo plugins
cargo build --release --workspace --target wasm32-wasip2 --target-dir target/policy-rust \
    --manifest-path examples/policy-rust/Cargo.toml
wharf=$PWD/target/release/wharf
shipped=target/wasm32-unknown-unknown/plugin
written=target/policy-rust/wasm32-wasip2/release

say "2. Make three versions of an image from Debian packages"
. /etc/os-release
if missing apt-get || [ "${ID-}" != debian ]; then
    echo "this is not Debian: copying public images instead"
    image() { skopeo copy --quiet "docker://docker.io/library/$2" "oci:$work/image:$1"; }
    image 1.0 debian:12 && image 1.1 alpine:3.20 && image 1.2 alpine:3.20
else
    [ -n "$(apt-cache policy hello 2>/dev/null | sed -n '/Candidate: [0-9]/p')" ] || as_root apt-get update -qq
    image() { printf '%s  %s\n' "app:$1" "$(bash examples/debian-image.sh "$work/image:$1" "base-files libc6" "$2")"; }
    image 1.0 "sed hello"
    image 1.1 "sed"
    image 1.2 "sed grep"
fi

say "3. Serve on loopback; the data folder is $work/data"
mkdir -p "$work/data/plugins"
: >"$work/server.log"
"$wharf" serve --data "$work/data" --listen 127.0.0.1:0 >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 1200); do
    WHARF_SERVER=$(sed -n 's/.*listening on \(http[^ ]*\).*/\1/p' "$work/server.log" | head -n 1)
    [ -z "$WHARF_SERVER" ] || break
    sleep 0.1
done
WHARF_USER=admin
WHARF_PASSWORD=$(cat "$work/data/initial-admin-password")
export WHARF_SERVER WHARF_USER WHARF_PASSWORD
registry=${WHARF_SERVER#http://}
"$wharf" user add ci --service
"$wharf" grant add ci write 'dev/*'
token=$("$wharf" token create ci --of ci --scope 'dev/*:pull,push' --expires 1d)

# until TEXT COMMAND…: repeats the command until it prints the text; three minutes at most.
until_it_says() {
    local text=$1
    shift
    for _ in $(seq 900); do
        # Not -q: a command that goes on after the text would be ended by it, and fail.
        if "$@" 2>/dev/null | grep -- "$text" >/dev/null; then return 0; fi
        sleep 0.2
    done
    printf 'waited three minutes for `%s` from: %s\n' "$text" "$*" >&2
    "$@" >&2 || true
    return 1
}
push() {
    skopeo copy --quiet --dest-tls-verify=false --dest-creds "ci:$token" "oci:$work/image:$1" "docker://$registry/dev/app:$1"
    echo "pushed dev/app:$1"
}
digest() {
    skopeo inspect --tls-verify=false --creds "admin:$WHARF_PASSWORD" --format '{{.Digest}}' "docker://$registry/$1"
}

say "4. Drop two policies into the plugin folder, and import the advisories made up for this"
cp "$shipped/criteria.wasm" "$work/data/plugins/"
cp "$written/no_criticals.wasm" "$work/data/plugins/no-criticals.wasm"
until_it_says criteria "$wharf" plugin ls
until_it_says no-criticals "$wharf" plugin ls
"$wharf" plugin ls
"$wharf" db import --source quickstart --covers Debian:12,Debian:13,Alpine:v3.20 examples/quickstart/advisories.json

say "5. Bind them: dev → qa by the policy of examples/policy-rust, qa → prod by Docker Trusted Registry's kind of rules"
"$wharf" policy bind to-qa --from 'dev/*' --to 'qa/{name}' --plugin no-criticals --config '{"pushed_by": ["ci"]}'
"$wharf" policy bind to-prod --from 'qa/*' --to 'prod/{name}' --plugin criteria --config '{"criteria": [
    {"field": "cvss", "operator": "lt", "values": ["9"]},
    {"field": "component.name", "operator": "noo", "values": ["telnetd"]}]}'

say "6. dev/app:1.0 holds a package with a (made-up) critical finding: it stays where it is"
push 1.0
until_it_says reject "$wharf" policy explain dev/app:1.0
"$wharf" policy explain dev/app:1.0

say "7. dev/app:1.1 does not: it goes to qa, and from there to prod"
push 1.1
until_it_says sha256: digest prod/app:1.1
"$wharf" policy explain dev/app:1.1
"$wharf" policy explain qa/app:1.1
[ "$(digest dev/app:1.1)" = "$(digest prod/app:1.1)" ] || { echo "prod/app:1.1 is another image" >&2; exit 1; }
echo "prod/app:1.1 is the image that was pushed: $(digest prod/app:1.1)"

say "8. A stricter version is dropped over the policy: the next push is judged by it, without a restart"
cp "$written/no_criticals_strict.wasm" "$work/data/plugins/.next"
mv "$work/data/plugins/.next" "$work/data/plugins/no-criticals.wasm"
until_it_says '0\.2\.0' "$wharf" plugin ls
"$wharf" plugin ls
push 1.2
until_it_says 'update it' "$wharf" policy explain dev/app:1.2
"$wharf" policy explain dev/app:1.2

say "What happened"
"$wharf" events
"$wharf" image ls
say "Done."
