#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: the clients they drive, and with --lint also cargo-deny.
# Debian, as root or by sudo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing() { ! command -v "$1" >/dev/null 2>&1; }
hint() { printf '%s; hint: %s\n' "$1" "$2" >&2; exit 1; }
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    if missing sudo; then hint "'$*' is for root, and there is no sudo" "run it as root, then run this again"; fi
    sudo "$@"
}

packages=()
for client in skopeo podman curl openssl jq; do
    if missing "$client"; then packages+=("$client"); fi
done
if [ "${#packages[@]}" -gt 0 ]; then
    if missing apt-get; then
        hint "there is no apt-get to install these by: ${packages[*]}" "install them, then run this again"
    fi
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

for tool in cargo rustup go; do
    if missing "$tool"; then
        hint "$tool is missing" "install Rust by rustup (https://rustup.rs), and Go, which builds crane; then run this again"
    fi
done
PATH="$(go env GOPATH)/bin:$PATH"
if missing crane; then
    go install github.com/google/go-containerregistry/cmd/crane@v0.20.6
fi
if [ "${1-}" = --lint ] && missing cargo-deny; then
    cargo install --locked --quiet cargo-deny@0.20.2
fi
# rust-toolchain.toml names the targets; rustup adds them at the first use of the toolchain, or here.
rustup target add wasm32-unknown-unknown wasm32-wasip2
