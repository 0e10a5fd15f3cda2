//! The plugins that the tests drop in, built once for each test run.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

fn built(arguments: &[&str], wasm: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("target/guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .args(arguments)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(&root)
        .status()
        .unwrap();
    assert!(status.success(), "{wasm} builds; hint: `rustup target add wasm32-wasip2`");
    std::fs::read(target.join("wasm32-wasip2").join(wasm)).unwrap()
}

/// The plugin that ships.
pub(super) fn criteria() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| built(&["-p", "criteria", "--profile", "plugin"], "plugin/criteria.wasm"))
}

/// The plugin that does what its config says; see `host/plugin/tests/guest`.
pub(super) fn guest() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let manifest = ["--release", "--manifest-path", "host/plugin/tests/guest/Cargo.toml"];
    BUILT.get_or_init(|| built(&manifest, "release/wharf_test_guest.wasm"))
}

/// The guest with another mark: an even one approves, an odd one rejects.
pub(super) fn marked(mark: u8) -> Vec<u8> {
    let (from, to) = (b"WHARF-MARK-00", format!("WHARF-MARK-{mark:02}"));
    let mut bytes = guest().to_vec();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}
