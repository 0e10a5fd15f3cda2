#!/usr/bin/env bash
# All tests: units, property tests, crash tests, and the real binary under real clients.
#   bash tests/run.sh [FILTER]     FILTER goes to cargo test
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tests/install.sh
PATH="$(go env GOPATH)/bin:$PATH"
export PATH
# One selection of packages for every cargo call, so that dependencies are built once.
cargo build --workspace --all-targets
cargo test --workspace "$@"
# An outsider's workspace; in release, since the quickstart built its dependencies so.
cargo test --quiet --release --workspace --manifest-path examples/policy-rust/Cargo.toml --target-dir target/policy-rust
