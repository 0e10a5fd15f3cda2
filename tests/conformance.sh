#!/usr/bin/env bash
# Runs the OCI distribution-spec conformance program against a fresh server, at the version that is decided for the next
# release (its strictest: digest headers, upload cancel, `?tag=`, sparse manifests) and at 1.1.
#
# One setting is not the default: an image that lacks a layer is refused by default, with `MANIFEST_BLOB_UNKNOWN`, as the specification
# allows and as whoever pulls it would want. The strictest run pushes such images on purpose, so its repositories, and they
# alone, are among `[registry] sparse`. The run at 1.1 meets the defaults.
#
#   bash tests/conformance.sh PROGRAM [WHARF]
#
# PROGRAM is the built program; it is not on a package registry. Build it outside of this repository:
#
#   git clone https://github.com/opencontainers/distribution-spec && cd distribution-spec/conformance
#   go build -o /some/where/conformance .
#
# WHARF is the server's binary; without it the tree's own is built. Exit 0: no failure and no error in either run, and tests
# were run at all (the program itself exits 0 on a bad configuration, and writes failed cases without `<failure>`). What was
# skipped is listed.
set -euo pipefail

program=${1:?usage: bash tests/conformance.sh PROGRAM [WHARF]}
program=$(realpath "$program")
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -ge 2 ]; then
    wharf=$(realpath "$2")
else
    (cd "$root" && cargo build --quiet --workspace --all-targets)
    wharf=${CARGO_TARGET_DIR:-$root/target}/debug/wharf
fi

work=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

cat >"$work/wharf.toml" <<'TOML'
[registry]
sparse = ["sparse/*"]
TOML
"$wharf" serve --listen 127.0.0.1:0 --data "$work/data" --config "$work/wharf.toml" 2>"$work/server.log" &
server=$!
address=
for _ in $(seq 600); do
    address=$(sed -n 's|.*listening on http://\([^ ]*\).*|\1|p' "$work/server.log" | head -n 1)
    [ -n "$address" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; echo "the server did not start" >&2; exit 1; }
    sleep 0.1
done
[ -n "$address" ] || { cat "$work/server.log" >&2; echo "the server was not ready in time" >&2; exit 1; }

# The value of an attribute of the junit file's `testsuites`; the program leaves out those that are 0.
count() {
    local value
    value=$(sed -n "s/.*<testsuites [^>]*\b$1=\"\([0-9]*\)\".*/\1/p" "$2" | head -n 1)
    echo "${value:-0}"
}

failed=0
# run NAME ENVIRONMENT...
run() {
    local name=$1 results="$work/$1"
    shift
    mkdir -p "$results"
    # Where the settings come from must not depend on who runs this.
    (cd "$results" && env -i PATH="$PATH" HOME="$results" "$@" OCI_REGISTRY="$address" OCI_TLS=disabled \
        OCI_USERNAME=admin OCI_PASSWORD="$(cat "$work/data/initial-admin-password")" \
        OCI_RESULTS_DIR="$results" "$program" >"$results/output.txt" 2>&1) || true
    local junit="$results/junit.xml"
    [ -s "$junit" ] || { tail -n 20 "$results/output.txt" >&2; echo "$name: no junit.xml was written" >&2; failed=1; return; }
    local tests failures errors skipped
    tests=$(count tests "$junit") failures=$(count failures "$junit")
    errors=$(count errors "$junit") skipped=$(count skipped "$junit")
    echo "$name: tests=$tests failures=$failures errors=$errors skipped=$skipped"
    # Cases that the version's own settings disable are marked skipped as well, without being counted.
    [ "$skipped" -eq 0 ] || grep -o '<testcase [^>]*status="skip[^>]*' "$junit" | sed -n "s|<testcase name=\"\([^\"]*\)\".*|  skipped: \1|p" || true
    if [ "$tests" -eq 0 ] || [ "$failures" -ne 0 ] || [ "$errors" -ne 0 ]; then
        grep -o '<testcase [^>]*status="\(failure\|error\|fail\)[^>]*' "$junit" | sed -n "s|<testcase name=\"\([^\"]*\)\".*|  failed: \1|p" >&2 || true
        failed=1
    fi
}

run dev OCI_VERSION=dev OCI_DATA_SPARSE=true OCI_REPO1=sparse/one OCI_REPO2=sparse/two
run 1.1 OCI_VERSION=1.1 OCI_REPO1=plain/one OCI_REPO2=plain/two
exit "$failed"
