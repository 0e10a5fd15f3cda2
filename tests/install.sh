#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: the clients they drive, and with --lint also cargo-deny.
# Debian, as root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing() { ! command -v "$1" >/dev/null 2>&1; }

packages=()
for client in skopeo podman curl openssl jq; do
    if missing "$client"; then packages+=("$client"); fi
done
if [ "${#packages[@]}" -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

for tool in cargo go; do
    if missing "$tool"; then
        echo "$tool is missing; hint: install Rust by rustup, and Go, which builds crane" >&2
        exit 1
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
