//! How long a call of a policy takes: a fresh sandbox, the policy over an image of 500 packages, and the sandbox dropped.
//!
//! ```text
//! cargo run --release -p wharf-plugin --example bench_call -- criteria.wasm ['{"criteria": …}']
//! ```
//! Prints p50 and p99 of the call, and of a sandbox that nothing is called in, from the same run.

#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use wharf_plugin::facts::{
    Component, Coverage, Finding, FixState, ImageFacts, Knowledge, Platform, PlatformFacts, SealedFacts,
    Severity,
};
use wharf_plugin::trace::Subject;
use wharf_plugin::{CallLimits, Engine, EngineConfig, Grants, Plugin, grant, inspect};

/// A rule book as teams write them: who, how old, how bad, and some packages that must not be there.
const CRITERIA: &str = r#"{"criteria": [
    {"field": "tag", "operator": "sw", "values": ["v", "1."]},
    {"field": "vulnerability_critical", "operator": "lte", "values": ["0"]},
    {"field": "vulnerability_major", "operator": "lte", "values": ["500"]},
    {"field": "component.name", "operator": "noo", "values": ["xz-utils", "telnet"]},
    {"field": "pushed_by", "operator": "eq", "values": ["ci"]}
]}"#;

const PACKAGES: u32 = 500;
const FINDINGS: u32 = 300;
const ROUNDS: usize = 20_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("the path of a compiled policy is wanted")?;
    let config = arguments.next().unwrap_or_else(|| CRITERIA.to_owned());
    let bytes = std::fs::read(&path).with_context(|| path.clone())?;
    let started = Instant::now();
    let engine = Engine::new(EngineConfig::new(order))?;
    println!("engine started in {:.1?}, {}", started.elapsed(), resident());
    let inspected = inspect(&bytes)?;
    let granted = grant(&inspected, &Grants::default())?;
    let started = Instant::now();
    let plugin = engine.load(inspected, granted, &bytes)?;
    println!(
        "{} {}, {} KB, compiled in {:.0?}",
        plugin.name(),
        plugin.version(),
        bytes.len() / 1_000,
        started.elapsed()
    );
    let limits = CallLimits::default();
    if let Err(problems) = plugin.validate(&config, &limits)? {
        bail!("the config is refused: {problems:?}");
    }
    let facts = facts()?;
    let once = plugin.evaluate(&config, &facts, Subject::Image, &[], &limits)?;
    println!(
        "{} with {} questions, {} host calls",
        once.verdict.as_str(),
        once.trace.questions().len(),
        once.stats.host_calls
    );
    let empty = measure(|| Ok(plugin.self_test([], &limits)?))?;
    let call = measure(|| evaluate(&plugin, &config, &facts, &limits))?;
    report("sandbox alone", empty);
    report("sandbox and policy", call);
    println!(
        "target: p50 15 µs, p99 50 µs; ratio to the sandbox alone: {:.2}",
        call.0.as_secs_f64() / empty.0.as_secs_f64()
    );
    Ok(())
}

fn evaluate(plugin: &Plugin, config: &str, facts: &Arc<SealedFacts>, limits: &CallLimits) -> Result<()> {
    plugin.evaluate(config, facts, Subject::Image, &[], limits)?;
    Ok(())
}

/// p50 and p99.
fn measure(mut call: impl FnMut() -> Result<()>) -> Result<(Duration, Duration)> {
    for _ in 0..ROUNDS / 10 {
        call()?;
    }
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        call()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok((times[ROUNDS / 2], times[ROUNDS / 100 * 99]))
}

fn report(what: &str, (p50, p99): (Duration, Duration)) {
    println!("{what:20} p50 {:5.1} µs   p99 {:5.1} µs", p50.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6);
}

/// Memory of this process, by the kernel's account.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    format!("resident {}", line.map_or("unknown", str::trim))
}

fn order(_: &str, left: &str, right: &str) -> Option<Ordering> {
    Some(left.cmp(right))
}

/// An image as Debian's are: 500 packages in 8 layers, 300 findings, most without a fix.
fn facts() -> Result<Arc<SealedFacts>> {
    let component = |n: u32| Component {
        name: format!("libsomething{n}"),
        version: Some(format!("1.{n}.2-3+deb12u1")),
        ecosystem: "deb".into(),
        purl: format!("pkg:deb/debian/libsomething{n}@1.{n}.2-3%2Bdeb12u1?arch=amd64"),
        source_name: Some(format!("something{n}")),
        layer: Some(n % 8),
        path: Some("/var/lib/dpkg/status".into()),
        evidence: "dpkg status".into(),
        ..Component::default()
    };
    let severities = [Severity::Low, Severity::Medium, Severity::Unknown, Severity::Negligible];
    let finding = |n: u32| Finding {
        id: format!("CVE-2023-{n:05}"),
        source: "osv".into(),
        severity: severities[n as usize % severities.len()],
        cvss_tenths: n.is_multiple_of(2).then_some(35),
        component: n * 7 % PACKAGES,
        fix: if n.is_multiple_of(3) { FixState::Fixed } else { FixState::NotFixed },
        ..Finding::default()
    };
    let platform = PlatformFacts {
        digest: "sha256:aa".into(),
        platform: Some(Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() }),
        size_bytes: 120_000_000,
        scan: Knowledge::Complete,
        coverage: vec![Coverage { source: "osv/debian:12".into(), as_of_ms: 1_700_000_000_000 }],
        components: (0..PACKAGES).map(component).collect(),
        findings: (0..FINDINGS).map(finding).collect(),
        ..PlatformFacts::default()
    };
    let image = ImageFacts {
        repository: "dev/app".into(),
        tag: Some("1.4.2".into()),
        tag_revision: 1,
        digest: "sha256:aa".into(),
        size_bytes: 120_000_000,
        pushed_at_ms: 1_700_000_000_000,
        pushed_by: "ci".into(),
        evaluated_at_ms: 1_700_000_100_000,
        platforms: vec![platform],
        ..ImageFacts::default()
    };
    Ok(image.seal()?)
}
