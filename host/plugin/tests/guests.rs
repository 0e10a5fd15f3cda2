//! The test plugin, compiled once for a test run, and the facts that it judges.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use wharf_plugin::facts::{
    Component, Coverage, Finding, FixState, ImageFacts, Knowledge, Platform, PlatformFacts, SealedFacts,
    Severity,
};
use wharf_plugin::{CallLimits, Engine, EngineConfig, Grants, Plugin, grant, inspect};

/// The bytes of the compiled test plugin.
pub(crate) fn guest() -> &'static [u8] {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = here.join("../../target/guests");
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--target",
                "wasm32-wasip2",
                "--manifest-path",
            ])
            .arg(here.join("tests/guest/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the test plugin builds; hint: `rustup target add wasm32-wasip2`");
        std::fs::read(target.join("wasm32-wasip2/release/wharf_test_guest.wasm")).expect("it is there")
    })
}

/// The test plugin with another mark: an even one approves, an odd one rejects.
pub(crate) fn marked(mark: u8) -> Vec<u8> {
    replaced(guest(), b"WHARF-MARK-00", format!("WHARF-MARK-{mark:02}").as_bytes())
}

/// `bytes` with every `from` replaced by `to`, which has the same length.
pub(crate) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!found.is_empty(), "the bytes are there");
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

/// One engine for all tests, as in the host.
pub(crate) fn engine() -> &'static Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(EngineConfig::new(order)).expect("the engine starts"))
}

/// Compares versions by their numbers: `3.0.8-1` before `3.0.9`.
pub(crate) fn order(_: &str, left: &str, right: &str) -> Option<std::cmp::Ordering> {
    let numbers = |version: &str| -> Option<Vec<u32>> {
        version.split(['.', '-']).map(|number| number.parse().ok()).collect()
    };
    Some(numbers(left)?.cmp(&numbers(right)?))
}

/// The test plugin, ready to be called.
pub(crate) fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| load(guest()))
}

/// Limits for calls that are to succeed, or to run into a limit other than time: on a machine that is slow, busy with others, or
/// stands still for a while.
pub(crate) fn patient() -> CallLimits {
    CallLimits { time_ms: 10_000, ..CallLimits::default() }
}

/// Any plugin, ready to be called.
pub(crate) fn load(bytes: &[u8]) -> Plugin {
    let inspected = inspect(bytes).expect("it is a plugin");
    let granted = grant(&inspected, &Grants::default()).expect("it is granted what it asks for");
    engine().load(inspected, granted, bytes).expect("it compiles")
}

/// An image of one platform.
pub(crate) fn facts() -> ImageFacts {
    ImageFacts {
        repository: "dev/app".into(),
        tag: Some("1.4".into()),
        tag_revision: 3,
        digest: "sha256:aa".into(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size_bytes: 30_000_000,
        pushed_at_ms: 1_700_000_000_000,
        pushed_by: "ci".into(),
        evaluated_at_ms: 1_700_000_100_000,
        signature_check: Knowledge::Complete,
        facts: BTreeMap::from([("config.user".into(), "root".into())]),
        platforms: vec![platform("sha256:aa", 20)],
        ..ImageFacts::default()
    }
}

/// One platform with so many components, a finding on every second one.
pub(crate) fn platform(digest: &str, components: u32) -> PlatformFacts {
    let component = |n: u32| Component {
        name: format!("lib{n}"),
        version: Some(format!("{}.0", n % 5)),
        ecosystem: "deb".into(),
        licences: vec![if n.is_multiple_of(3) { "GPL-3.0-only".into() } else { "MIT OR Apache-2.0".into() }],
        layer: Some(n % 4),
        ..Component::default()
    };
    let finding = |n: u32| Finding {
        id: if n == 4 { "CVE-2024-3094".into() } else { format!("CVE-2023-{n:04}") },
        source: "debian".into(),
        severity: [Severity::Unknown, Severity::Low, Severity::Medium, Severity::High, Severity::Critical]
            [n as usize % 5],
        cvss_tenths: (!n.is_multiple_of(5)).then_some(u8::try_from(n % 5 * 20 + 10).unwrap_or(0)),
        component: n,
        fix: if n.is_multiple_of(4) { FixState::Fixed } else { FixState::NotFixed },
        facts: BTreeMap::from([("epss".into(), "0.5".into())]),
        ..Finding::default()
    };
    PlatformFacts {
        digest: digest.into(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        platform: Some(Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() }),
        size_bytes: 30_000_000,
        layers: (0..4).map(|n| format!("sha256:{n:02}")).collect(),
        labels: BTreeMap::from([("team".into(), "payments".into())]),
        scan: Knowledge::Complete,
        coverage: vec![Coverage { source: "osv/debian:12".into(), as_of_ms: 1_699_000_000_000 }],
        distribution: Some("debian:12".into()),
        end_of_life: Some(false),
        components: (0..components).map(component).collect(),
        findings: (0..components).filter(|n| n.is_multiple_of(2)).map(finding).collect(),
        ..PlatformFacts::default()
    }
}

/// The facts of [`facts`], sealed.
pub(crate) fn sealed() -> Arc<SealedFacts> {
    facts().seal().expect("they are in order")
}
