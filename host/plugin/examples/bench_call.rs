//! How long a call of a policy takes: a fresh sandbox, the policy over an image of 500 packages and 300 findings, and the sandbox
//! dropped. Facts are sealed before, as the host does; the record of the questions is a part of the call.
//!
//! ```text
//! cargo plugins && cargo run --profile dist -p wharf-plugin --example bench_call -- target/wasm32-unknown-unknown/plugin/criteria.wasm [CONFIG]
//! ```
//! Prints p50 and p99 of the call with several configurations of `criteria`, or with CONFIG, each beside a sandbox of the same
//! plugin in which nothing is called, and the target that the second row is held against.

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

/// Rules as teams write them. All are met, so that every criterion is judged.
const CASES: [(&str, &str); 3] = [
    (
        "one criterion",
        r#"{"criteria": [{"field": "vulnerability_critical", "operator": "lte", "values": ["0"]}]}"#,
    ),
    (
        "two criteria",
        r#"{"criteria": [
            {"field": "vulnerability_critical", "operator": "lte", "values": ["0"]},
            {"field": "component.name", "operator": "noo", "values": ["xz-utils"]}
        ]}"#,
    ),
    (
        "five criteria",
        r#"{"criteria": [
            {"field": "tag", "operator": "sw", "values": ["v", "1."]},
            {"field": "vulnerability_critical", "operator": "lte", "values": ["0"]},
            {"field": "vulnerability_major", "operator": "lte", "values": ["500"]},
            {"field": "component.name", "operator": "noo", "values": ["xz-utils", "telnet"]},
            {"field": "pushed_by", "operator": "eq", "values": ["ci"]}
        ]}"#,
    ),
];

/// What the case of two criteria is held against, in µs.
const TARGET_US: (f64, f64) = (15.0, 50.0);

const PACKAGES: u32 = 500;
const FINDINGS: u32 = 300;
const ROUNDS: usize = 100_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("the path of a compiled policy is wanted")?;
    let own = arguments.next();
    let bytes = std::fs::read(&path).with_context(|| path.clone())?;
    let started = Instant::now();
    let engine = Engine::new(EngineConfig::new(order))?;
    println!("engine started in {:.1?}, {}", started.elapsed(), resident());
    let inspected = inspect(&bytes)?;
    let granted = grant(&inspected, &Grants::default())?;
    let started = Instant::now();
    let plugin = engine.load(inspected, granted, &bytes)?;
    let (name, version, kb) = (plugin.name(), plugin.version(), bytes.len() / 1_000);
    println!("{name} {version}, {kb} KB, compiled in {:.0?}", started.elapsed());
    println!("an image of {PACKAGES} packages and {FINDINGS} findings, {ROUNDS} calls each\n");
    println!(
        "{:16} {:>9} {:>10} {:>8} {:>8} {:>9}",
        "", "questions", "host calls", "p50 µs", "p99 µs", "× sandbox"
    );
    let limits = CallLimits::default();
    let sandbox = measure(|| Ok(plugin.self_test([], &limits)?))?;
    row("sandbox alone", (0, 0), sandbox, sandbox);
    let facts = facts()?;
    let cases = own.as_deref().map_or(CASES.to_vec(), |config| vec![("the given", config)]);
    for (name, config) in cases {
        let (asked, times) = case(&plugin, config, &facts, &limits)?;
        row(name, asked, times, sandbox);
    }
    println!("target: two criteria in {} µs p50, {} µs p99", TARGET_US.0, TARGET_US.1);
    Ok(())
}

type Times = (Duration, Duration);

/// The questions and host calls of one call, and how long it takes.
fn case(
    plugin: &Plugin,
    config: &str,
    facts: &Arc<SealedFacts>,
    limits: &CallLimits,
) -> Result<((usize, u32), Times)> {
    if let Err(problems) = plugin.validate(config, limits)? {
        bail!("the config is refused: {problems:?}");
    }
    let once = plugin.evaluate(config, facts, Subject::Image, &[], limits)?;
    let asked = (once.trace.questions().len(), once.stats.host_calls);
    Ok((asked, measure(|| evaluate(plugin, config, facts, limits))?))
}

fn row(name: &str, (questions, host_calls): (usize, u32), times: Times, sandbox: Times) {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:16} {questions:9} {host_calls:10} {:8.1} {:8.1} {:9.2}",
        us(times.0),
        us(times.1),
        us(times.0) / us(sandbox.0)
    );
}

fn evaluate(plugin: &Plugin, config: &str, facts: &Arc<SealedFacts>, limits: &CallLimits) -> Result<()> {
    plugin.evaluate(config, facts, Subject::Image, &[], limits)?;
    Ok(())
}

/// p50 and p99.
fn measure(mut call: impl FnMut() -> Result<()>) -> Result<Times> {
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
