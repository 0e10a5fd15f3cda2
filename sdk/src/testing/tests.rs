use super::version::{Range, compare};
use super::*;
use crate::glob;
use std::cmp::Ordering;

#[test]
fn globs_match_whole_texts() {
    for (pattern, text, expected) in [
        ("openssl", "openssl", true),
        ("openssl", "openssl3", false),
        ("openssl*", "openssl", true),
        ("*ssl*", "libssl3", true),
        ("lib?sl3", "libssl3", true),
        ("*a*b*c", "xxaybzc", true),
        ("*a*b*c", "xxaybz", false),
        ("", "", true),
        ("*", "", true),
    ] {
        assert_eq!(glob(pattern, text), expected, "`{pattern}` on `{text}`");
    }
}

#[test]
fn versions_are_in_debians_order() {
    let sorted = ["1.0~rc1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0a", "1.0.1", "1.2", "1.10", "1:0.1"];
    for (at, a) in sorted.iter().enumerate() {
        for (other, b) in sorted.iter().enumerate() {
            assert_eq!(compare(a, b), at.cmp(&other), "`{a}` and `{b}`");
        }
    }
    assert_eq!(compare("1.02", "1.2"), Ordering::Equal);
}

#[test]
fn ranges_are_groups_of_comparisons() {
    let range = Range::parse(">=3.0, <3.0.14 || >=3.1, <3.1.6").unwrap();
    for (version, expected) in
        [("3.0.2", true), ("3.0.14", false), ("3.1.5", true), ("2.9", false), ("3.1.6", false)]
    {
        assert_eq!(range.contains(version), expected, "{version}");
    }
    for bad in ["", "3.0", "<", "<3.0 4", "<3,,", "~3", ">=2, <1", &["<1"; 65].join(","), &"<1 ".repeat(400)]
    {
        assert!(Range::parse(bad).is_err(), "`{bad}`");
    }
}

/// Regression: the test of a policy passed that asked what ends the call in Wharf.
#[test]
fn a_question_past_its_bounds_ends_the_test() {
    let facts = sample();
    let check = |asked: &dyn Fn(&Image<'_>) -> u32, expected: Option<&str>| {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| asked(&facts.image())));
        let words = ended.err().map(|panic| match panic.downcast::<String>() {
            Ok(words) => *words,
            Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
        });
        assert_eq!(words.as_deref(), expected);
    };
    let of_one_case = Some("a question may have 64 criteria of one case");
    let names =
        |count| move |image: &Image<'_>| (0..count).fold(image.components(), |q, _| q.name("*")).count();
    check(&names(64), None);
    check(&names(65), of_one_case);
    let ids = |count| move |image: &Image<'_>| (0..count).fold(image.findings(), |q, _| q.id("*")).count();
    check(&ids(64), None);
    check(&ids(65), of_one_case);
    let too_long = Some("the text of a criterion may have 1024 bytes, this has 1025");
    let path = |bytes: usize| move |image: &Image<'_>| image.components().path(&"a".repeat(bytes)).count();
    check(&path(1024), None);
    check(&path(1025), too_long);
    check(&|image| image.findings().fact("epss", &"a".repeat(1025)).count(), too_long);
}

#[test]
fn a_page_has_a_bound() {
    let mut facts = Facts::scanned("dev/app", "1");
    (0..1_001).for_each(|n| _ = facts.add_component(component(&n.to_string(), "1")));
    assert_eq!(facts.image().components().first(5_000).len(), 1_000);
    assert_eq!(facts.image().components().iter().count(), 1_001);
}

#[test]
fn a_guess_is_found_and_allows_nothing() {
    let mut facts = sample();
    facts.components[0].licences = vec!["GPL".to_owned()];
    let image = facts.image();
    assert_eq!(image.components().licence("GPL-2.0-only").count(), 1);
    assert_eq!(image.components().licence("gpl").count(), 1);
    assert_eq!(image.components().licence_outside(&["GPL-2.0-only".to_owned()]).unwrap().count(), 1);
    assert_eq!(image.components().licence_outside(&["GPL".to_owned()]).unwrap().count(), 0);
}

/// Regression: what Wharf takes for the same licence was two in the test of a policy. The cases are those of the host's own test.
#[test]
fn an_old_name_of_gnu_s_is_the_one_of_today() {
    let check = |text: &str, allowed: &str, expected: bool| {
        let mut facts = sample();
        facts.components[0].licences = vec![text.to_owned()];
        let outside = facts.image().components().licence_outside(&[allowed.to_owned()]).unwrap().count();
        assert_eq!(outside == 0, expected, "`{text}` beside `{allowed}`");
    };
    check("GPL-2.0", "GPL-2.0-only", true);
    check("GPL-2.0-only", "GPL-2.0", true);
    check("GPL-2.0+", "GPL-2.0-or-later", true);
    check("GPL-2.0+", "GPL-2.0-only", false);
    check("GPL-2.0 WITH Classpath-exception-2.0", "GPL-2.0-only", false);
    check("GPL-2.0 WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0", true);
}

fn sample() -> Facts {
    let mut facts = Facts::scanned("dev/app", "1");
    facts.add_finding(fixed_in(finding("CVE-1", Severity::High, "openssl", "3.0.8"), "3.0.9"));
    facts.add_finding(finding("CVE-2", Severity::Unknown, "openssl", "3.0.8"));
    let mut waived = finding("CVE-3", Severity::Critical, "zlib1g", "1.2");
    waived.waived = true;
    waived.aliases.push("GHSA-3".to_owned());
    facts.add_finding(waived);
    let mut hint = component("musl", "1.2.4");
    hint.confidence = Confidence::Hint;
    facts.add_component(hint);
    facts
}

#[test]
fn findings_are_narrowed() {
    let facts = sample();
    let image = facts.image();
    assert_eq!(image.findings().count(), 2);
    assert_eq!(image.findings().include_waived().count(), 3);
    assert_eq!(image.findings().at_least(Severity::Low).count(), 1);
    assert_eq!(image.findings().severity(Severity::Unknown).severity(Severity::High).count(), 2);
    assert_eq!(image.findings().id("GHSA-*").include_waived().count(), 1);
    assert_eq!(image.findings().fixable().iter().map(|f| f.id).collect::<Vec<_>>(), ["CVE-1"]);
    assert_eq!(image.findings().cvss_at_least(8.0).count(), 1);
    assert_eq!(image.findings().cvss_at_least(8.1).count(), 0);
    assert_eq!(image.findings().unscored().count(), 1);
    assert_eq!(image.findings().component_name("open*").count(), 2);
}

#[test]
fn components_are_narrowed() {
    let mut facts = sample();
    facts.components[0].licences = vec!["MIT OR GPL-3.0-only".to_owned()];
    let image = facts.image();
    assert_eq!(image.components().count(), 2);
    assert_eq!(image.components().include_hints().count(), 3);
    assert_eq!(image.components().name("openssl*").version("<3.0.9").unwrap().count(), 1);
    assert_eq!(image.components().name("openssl*").version(">=3.0.9").unwrap().count(), 0);
    assert_eq!(image.components().licence("gpl-*").count(), 1);
    assert_eq!(image.components().unlicensed().count(), 1);
    assert_eq!(image.components().licence_outside(&["MIT".to_owned()]).unwrap().count(), 0);
    assert_eq!(image.components().licence_outside(&["ISC".to_owned()]).unwrap().count(), 1);
}

#[test]
fn an_index_answers_as_its_worst_platform() {
    let mut index = Facts::unscanned("dev/app", "1");
    index.platform = None;
    index.platforms = vec![Facts::scanned("dev/app", "1"), sample()];
    assert_eq!(index.image().findings().count(), 2);
    assert_eq!(index.image().scan(), Knowledge::Complete);
    index.platforms[0].scan = Knowledge::Pending;
    assert_eq!(index.image().scan(), Knowledge::Pending);
    assert_eq!(index.image().platforms().count(), 2);
}
