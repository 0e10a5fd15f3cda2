//! A policy that does what its config says: `{"do": "…"}`. Tests patch [`MARK`] in the compiled file, so that several plugins
//! can be told apart without being compiled.

wit_bindgen::generate!({ path: "../../../../wit/v0.1", world: "promotion-policy" });

use exports::wharf::plugin::policy::{Guest, Problem, Verdict};
use wharf::plugin::facts::{
    ComponentCriterion, FactCriterion, FindingCriterion, Image, Severity, check_range,
};
use wharf::plugin::{
    log,
    outcome::{Reason, Report},
};

/// The manifest, in the section where the host looks for it.
#[used]
#[unsafe(link_section = "wharf:manifest")]
static MANIFEST: [u8; MANIFEST_TEXT.len()] = *MANIFEST_TEXT;
const MANIFEST_TEXT: &[u8; 244] = br#"{"name":"guest","version":"1.0.0","kind":"promotion-policy","description":"does what its config says","capabilities":["log"],"config_schema":{"type":"object","required":["do"],"properties":{"do":{"type":"string"}},"additionalProperties":false}}"#;

/// Patched by tests.
static MARK: [u8; 13] = *b"WHARF-MARK-00";

struct TestGuest;

impl Guest for TestGuest {
    fn validate(config: String) -> Result<(), Vec<Problem>> {
        match action(&config) {
            "refuse-config" => {
                Err(vec![Problem { pointer: "/do".into(), message: "this one is refused".into() }])
            }
            "problem-flood" => Err((0..10_000)
                .map(|n| Problem { pointer: format!("/{n}"), message: "x".repeat(50) })
                .collect()),
            "trap-in-validate" => panic!("told to"),
            _ => Ok(()),
        }
    }

    fn evaluate(config: String, image: &Image, report: &Report) -> Result<Verdict, String> {
        match action(&config) {
            "mark" => mark(report),
            "ask" => ask(image, report),
            "list" => list(image, report),
            "platforms" => {
                for platform in image.platforms(0, 10) {
                    let text = format!("{} {}", platform.digest(), platform.count_components(&[]));
                    reason(report, "platform", &text);
                }
                Ok(Verdict::Approve)
            }
            "random" => {
                // Its hasher is seeded from WASI's random numbers.
                let map: std::collections::HashMap<u32, u32> = (0..64).map(|n| (n, n)).collect();
                reason(report, "order", &map.keys().map(|k| format!("{k} ")).collect::<String>());
                reason(report, "now", &format!("{:?}", std::time::SystemTime::now()));
                reason(
                    report,
                    "args",
                    &format!("{:?} {:?}", std::env::args().count(), std::env::vars().count()),
                );
                let file = std::fs::read("/etc/passwd").err().map(|e| e.kind().to_string());
                reason(report, "file", &format!("{file:?}"));
                Ok(Verdict::Approve)
            }
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_secs(3_600));
                Ok(Verdict::Approve)
            }
            "loop" => loop {
                std::hint::black_box(());
            },
            "grow" => {
                let mut all = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1u8; 1 << 20]));
                }
            }
            "recurse" => Ok(if recurse(1) > 0 { Verdict::Approve } else { Verdict::Hold }),
            "panic" => panic!("told to panic"),
            "log-flood" => {
                for _ in 0..50_000 {
                    log::write(log::Level::Info, "the same line, again and again and again");
                }
                Ok(Verdict::Approve)
            }
            "host-call-flood" => loop {
                image.size_bytes();
            },
            "clock-flood" => loop {
                std::hint::black_box(std::time::Instant::now());
            },
            "reason-flood" => loop {
                reason(report, "flood", "the same reason, again and again");
            },
            "long-reason" => {
                reason(report, "long", &"x".repeat(40 << 10));
                reason(report, "last", "what comes after it");
                Ok(Verdict::Approve)
            }
            "criteria-flood" => {
                let glob = ComponentCriterion::Name("*".repeat(1_000));
                image.count_components(&vec![glob; 2_000]);
                Ok(Verdict::Approve)
            }
            "too-many-criteria" => {
                image.count_findings(&vec![FindingCriterion::Id("CVE-*".into()); 65]);
                Ok(Verdict::Approve)
            }
            "too-long-criterion" => {
                image.count_components(&[ComponentCriterion::Path("x".repeat(1_025))]);
                Ok(Verdict::Approve)
            }
            "bad-range" => {
                image.count_components(&[ComponentCriterion::Version("3".into())]);
                Ok(Verdict::Approve)
            }
            "slow-question" => {
                // Against a long text of one letter this fails late, at every place where it may start.
                let glob = format!("*{}b", "a".repeat(500));
                let criteria = vec![ComponentCriterion::Path(glob); 64];
                Ok(if image.count_components(&criteria) == 0 { Verdict::Approve } else { Verdict::Hold })
            }
            "lying-error" => Err(lie()),
            "lying-reason" => {
                let text = lie();
                let reason = std::mem::ManuallyDrop::new(Reason { code: "huge".into(), text });
                report.reasons(std::slice::from_ref(&*reason));
                Ok(Verdict::Approve)
            }
            "huge-error" => Err("x".repeat(8 << 20)),
            "big-error" => Err("x".repeat(300 << 10)),
            "huge-reason" => {
                reason(report, "huge", &"x".repeat(8 << 20));
                Ok(Verdict::Approve)
            }
            "huge-list" => {
                let text = "x".repeat(512 << 10);
                let list = vec![text; 4];
                image.count_components(&[ComponentCriterion::LicenceOutside(list)]);
                Ok(Verdict::Approve)
            }
            "error" => Err("no verdict today".into()),
            "exit" => std::process::exit(0),
            "target" => {
                let none = report.target("elsewhere/app");
                reason(report, "refused", &none.err().unwrap_or_default());
                report.target(&report.targets()[0])?;
                report.recheck_at_ms(image.evaluated_at_ms() + 2_000);
                report.recheck_at_ms(image.evaluated_at_ms() + 1_000);
                Ok(Verdict::Approve)
            }
            other => Err(format!("nothing to do for `{other}`")),
        }
    }
}

/// The value of `do`.
fn action(config: &str) -> &str {
    config.split('"').nth(3).unwrap_or("")
}

/// A text that says that it has 1 GB, which is far more than there is memory.
fn lie() -> String {
    // SAFETY: none: a hostile plugin would not mind. What it can harm is inside its sandbox.
    unsafe { String::from_raw_parts(std::ptr::dangling_mut(), 1 << 30, 1 << 30) }
}

fn reason(report: &Report, code: &str, text: &str) {
    report.reasons(&[Reason { code: code.into(), text: text.into() }]);
}

/// Approves if the mark is even, rejects if it is odd; the reason is the mark.
fn mark(report: &Report) -> Result<Verdict, String> {
    let mark = std::hint::black_box(&MARK);
    let number = (mark[11] - b'0') * 10 + (mark[12] - b'0');
    reason(report, "mark", &number.to_string());
    Ok(if number % 2 == 0 { Verdict::Approve } else { Verdict::Reject })
}

/// Asks one question of every sort.
fn ask(image: &Image, report: &Report) -> Result<Verdict, String> {
    let mut said = Vec::new();
    said.push(format!("{} {:?} {}", image.repository(), image.tag(), image.tag_revision()));
    said.push(format!("{} {:?} {}", image.digest(), image.index_digest(), image.media_type()));
    said.push(format!("{:?} {} {}", image.artifact_type(), image.size_bytes(), image.layer_count()));
    said.push(format!("{:?}", image.platform()));
    said.push(format!("{} {} {:?}", image.pushed_at_ms(), image.pushed_by(), image.created_at_ms()));
    said.push(format!("{:?} {:?}", image.label("team"), image.annotation("a")));
    said.push(format!("{} {:?}", image.evaluated_at_ms(), image.scan()));
    said.push(format!("{} {:?}", image.has_vulnerability_data(), image.vulnerability_data(0, 10)));
    said.push(format!("{:?}", image.distribution()));
    said.push(format!("{:?} {:?}", image.end_of_life(), image.signature_check()));
    said.push(format!("{:?} {:?}", image.signatures(0, 10), image.approvals(0, 10)));
    let counts = [
        vec![FindingCriterion::IncludeWaived, FindingCriterion::IncludeHints],
        vec![FindingCriterion::AtLeast(Severity::Critical)],
        vec![FindingCriterion::CvssAtLeast(70)],
        vec![FindingCriterion::Id("CVE-2024-3094".into())],
        vec![FindingCriterion::Fixable],
        vec![FindingCriterion::Fact(FactCriterion { name: "epss".into(), glob: "0.*".into() })],
    ]
    .map(|criteria| image.count_findings(&criteria));
    said.push(format!("findings {counts:?}"));
    let counts = [
        vec![ComponentCriterion::Name("lib*".into()), ComponentCriterion::Version("<3".into())],
        vec![ComponentCriterion::LicenceOutside(vec!["MIT".into(), "Apache-2.0".into()])],
    ]
    .map(|criteria| image.count_components(&criteria));
    said.push(format!("components {counts:?}"));
    said.push(format!("{:?} {}", check_range("<3"), check_range("3").is_err()));
    said.push(format!("{:?} {:?}", image.finding_fact(0, "epss"), image.component_fact(0, "x")));
    said.push(format!("{:?} {:?}", image.licences(0, 10), image.fact("config.user")));
    for text in said {
        reason(report, "said", &text);
    }
    Ok(if counts[0] == 0 { Verdict::Approve } else { Verdict::Hold })
}

/// Lists everything, page by page.
fn list(image: &Image, report: &Report) -> Result<Verdict, String> {
    let mut names = 0;
    loop {
        let page = image.components(&[], names, 7);
        names += page.len() as u32;
        if page.len() < 7 {
            break;
        }
    }
    reason(report, "components", &names.to_string());
    let page = image.findings(&[], 0, u32::MAX);
    reason(report, "findings", &page.len().to_string());
    if let Some(first) = page.first() {
        reason(report, "first", &format!("{} {} {:?}", first.id, first.component_name, first.cvss_tenths));
    }
    Ok(Verdict::Approve)
}

/// Deep, but without a frame in linear memory: there it would run out of that before it ran out of stack.
#[inline(never)]
fn recurse(n: u64) -> u64 {
    if n == 0 { 0 } else { recurse(n + 1).wrapping_mul(3) ^ n }
}

export!(TestGuest);
