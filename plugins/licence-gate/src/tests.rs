use crate::licence::{Lists, Standing, check_entry};
use crate::wharf_policy::Plugin;
use proptest::prelude::*;
use serde_json::{Value, json};
use wharf_sdk::prelude::*;
use wharf_sdk::testing::{self, Facts, component};

fn image(licences: &[(&str, &[&str])]) -> Facts {
    let mut facts = Facts::scanned("dev/app", "1");
    for (name, texts) in licences {
        let mut component = component(name, "1.0");
        component.licences = texts.iter().map(|text| (*text).to_owned()).collect();
        facts.add_component(component);
    }
    facts
}

fn outcome(config: &Value, facts: &Facts) -> Outcome {
    testing::judge::<Plugin>(config, facts).unwrap_or_else(|why| panic!("{config}: {why}"))
}

fn standing(allow: &[&str], deny: &[&str], text: &str) -> Standing {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Lists::new(&owned(allow), &owned(deny)).standing(text)
}

#[test]
fn expressions_stand_as_their_best_choice() {
    let deny = &["GPL-3.0-only"][..];
    for (text, expected) in [
        ("MIT", Standing::Fine),
        ("GPL-3.0-only", Standing::Denied),
        ("gpl-3.0-only", Standing::Denied),
        ("GPL-3.0", Standing::Denied),
        ("GPL-3", Standing::Denied),
        ("MIT OR GPL-3.0-only", Standing::Fine),
        ("MIT AND GPL-3.0-only", Standing::Denied),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", Standing::Fine),
        ("(MIT AND GPL-3.0-only) OR Apache-2.0", Standing::Fine),
        ("(MIT AND GPL-3.0-only) OR (ISC AND GPL-3.0-only)", Standing::Denied),
        ("Expat or GPL-3", Standing::Fine),
        ("Expat and GPL-3", Standing::Denied),
        ("LicenseRef-ours", Standing::Unknown),
        ("LicenseRef-ours OR MIT", Standing::Fine),
        ("LicenseRef-ours OR GPL-3.0-only", Standing::Unknown),
        ("see the file LICENSE", Standing::Unknown),
    ] {
        assert_eq!(standing(&[], deny, text), expected, "`{text}`");
    }
}

#[test]
fn what_is_not_listed_is_told_from_what_is_denied() {
    let (allow, deny) = (&["MIT", "Apache-2.0", "BSD-*", "GPL-2.0-only"][..], &["*-4-Clause"][..]);
    for (text, expected) in [
        ("BSD-3-Clause", Standing::Fine),
        ("BSD-4-Clause", Standing::Denied),
        ("Zlib", Standing::Unlisted),
        ("Zlib OR MIT", Standing::Fine),
        ("Zlib AND BSD-4-Clause", Standing::Denied),
        ("Zlib OR BSD-4-Clause", Standing::Unlisted),
        ("Apache-1.1+", Standing::Fine),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Standing::Unlisted),
    ] {
        assert_eq!(standing(allow, deny, text), expected, "`{text}`");
    }
    assert_eq!(standing(&["MIT"], &["MIT"], "MIT"), Standing::Denied, "deny wins");
    assert_eq!(standing(&["see *"], &[], "see the file LICENSE"), Standing::Fine);
    let with_exception = "GPL-3.0-or-later WITH GCC-exception-3.1";
    assert_eq!(standing(&[], &["GPL-3.0-or-later"], with_exception), Standing::Fine);
    assert_eq!(standing(&[], &["GPL-3.0*"], with_exception), Standing::Denied);
    assert_eq!(standing(&[with_exception], &[], with_exception), Standing::Fine);
}

#[test]
fn reasons_name_the_components() {
    let facts = image(&[
        ("bash", &["GPL-3.0-or-later"]),
        ("libc6", &["LGPL-2.1-or-later", "GPL-3.0-or-later"]),
        ("readline", &["GPL-3.0-or-later"]),
        ("sed", &["GPL-3.0-or-later"]),
        ("odd", &["Some words of its own"]),
        ("bare", &[]),
    ]);
    let outcome = outcome(&json!({ "deny": ["GPL-3.0*"] }), &facts);
    assert_eq!(outcome.verdict, Verdict::Reject);
    let reasons: Vec<(&str, &str)> =
        outcome.reasons.iter().map(|r| (r.code.as_str(), r.text.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("denied-licence", "`GPL-3.0-or-later` is denied: bash 1.0, libc6 1.0, readline 1.0 and others"),
            ("unknown-licence", "`Some words of its own` is no licence that SPDX knows: odd 1.0"),
            ("missing-licence", "no licence is known of bare 1.0"),
        ]
    );
}

#[test]
fn each_case_has_its_consequence() {
    let facts = image(&[("a", &["GPL-3.0-only"]), ("b", &["Zlib"]), ("c", &["whatever"]), ("d", &[])]);
    let all = json!({ "allow": ["MIT"], "deny": ["GPL-3.0-only"] });
    for (case, codes) in [
        ("denied", ["unlisted-licence", "unknown-licence", "missing-licence"]),
        ("unlisted", ["denied-licence", "unknown-licence", "missing-licence"]),
        ("unknown", ["denied-licence", "unlisted-licence", "missing-licence"]),
        ("missing", ["denied-licence", "unlisted-licence", "unknown-licence"]),
    ] {
        let mut config = all.clone();
        config[case] = json!("ignore");
        let mut found: Vec<String> = outcome(&config, &facts).reasons.into_iter().map(|r| r.code).collect();
        found.sort();
        let mut codes = codes.map(str::to_owned);
        codes.sort();
        assert_eq!(found, codes, "`{case}` ignored");

        let mut config = json!({ "allow": ["MIT"], "deny": ["GPL-3.0-only"], "denied": "ignore", "unlisted": "ignore",
            "unknown": "ignore", "missing": "ignore" });
        assert_eq!(outcome(&config, &facts).verdict, Verdict::Approve);
        for (word, verdict) in [("hold", Verdict::Hold), ("reject", Verdict::Reject)] {
            config[case] = json!(word);
            assert_eq!(outcome(&config, &facts).verdict, verdict, "`{case}` {word}");
        }
    }
}

#[test]
fn exempt_components_are_not_looked_at() {
    let facts = image(&[("bash", &["GPL-3.0-only"]), ("linux-libc-dev", &[]), ("sed", &["GPL-3.0-only"])]);
    let mut config = json!({ "deny": ["GPL-3.0*"], "exempt": ["bash", "linux-*"] });
    let judged = outcome(&config, &facts);
    assert_eq!(judged.reasons.len(), 1);
    assert_eq!(judged.reasons[0].text, "`GPL-3.0-only` is denied: sed 1.0");
    config["exempt"] = json!(["*"]);
    assert_eq!(outcome(&config, &facts).verdict, Verdict::Approve);
}

#[test]
fn what_was_not_scanned_is_held() {
    let mut facts = image(&[("a", &["MIT"])]);
    for scan in
        [Knowledge::None, Knowledge::Pending, Knowledge::Partial, Knowledge::Failed, Knowledge::Unsupported]
    {
        facts.scan = scan;
        assert_eq!(outcome(&json!({ "allow": ["MIT"] }), &facts).verdict, Verdict::Hold, "{scan:?}");
    }
}

#[test]
fn mistakes_are_told_with_pointers() {
    let told = |config: Value| testing::judge::<Plugin>(&config, &image(&[])).unwrap_err();
    assert!(told(json!({})).contains("both lists are empty"));
    let why = told(json!({ "allow": ["MIT", "GLP-2.0"], "deny": ["MIT OR ISC", ""] }));
    for pointer in ["`/allow/1`", "`/deny/0`", "`/deny/1`"] {
        assert!(why.contains(pointer), "{pointer} in: {why}");
    }
    assert!(told(json!({ "allow": ["MIT"], "denied": "never" })).contains("`/denied`"));
}

/// `Expat` and `GPL-2+` were refused with a hint that let what they deny pass, and `GPL-2.0+` as an expression.
#[test]
fn an_old_name_in_a_list_is_read_as_that_of_a_component_is() {
    for (entry, text) in [
        ("Expat", "MIT"),
        ("expat", "Expat"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPL-2.0-or-later", "GPL-2+"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("GPL-3", "GPL-3.0-only"),
        ("Apache-2", "Apache-2.0"),
        ("GPL-2+ WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
    ] {
        assert_eq!(check_entry(entry), Ok(()), "`{entry}`");
        assert_eq!(standing(&[], &[entry], text), Standing::Denied, "`{entry}` and `{text}`");
        assert_eq!(standing(&[entry], &[], text), Standing::Fine, "`{entry}` and `{text}`");
    }
    let denies = json!({ "deny": ["Expat", "GPL-2+"], "missing": "ignore" });
    assert_eq!(outcome(&denies, &image(&[("a", &["MIT"])])).verdict, Verdict::Reject);
    assert_eq!(outcome(&denies, &image(&[("a", &["Zlib"])])).verdict, Verdict::Approve);
}

/// `Expat*` and `GPL-3+*` were taken, and matched nothing.
#[test]
fn a_pattern_matches_the_licence_that_is_written_in_it() {
    for (entry, licence) in [
        ("Expat*", "`MIT`"),
        ("*Expat", "`MIT`"),
        ("GPL-3+*", "`GPL-3.0-or-later`"),
        ("GPL-2.0+*", "`GPL-2.0-or-later`"),
        ("*GPL-3.0", "`GPL-3.0-only`"),
        ("GPL-3.0 *", "`GPL-3.0-only`"),
        ("Perl*", "`GPL-1.0-or-later`, `Artistic-1.0-Perl`"),
        ("GPL-2+ and Expat*", "`GPL-2.0-or-later`, `MIT`"),
    ] {
        let why = check_entry(entry).unwrap_err();
        assert!(why.contains("matches no licence") && why.contains(licence), "{why}");
    }
    for entry in [
        "*",
        "GPL-3.0*",
        "GPL-2*",
        "GPL*",
        "LGPL-*",
        "BSD-*",
        "*-4-Clause",
        "mit*",
        "MIT??",
        "MIT *",
        "Apache-2.0?",
        "Apache-2.0+*",
        "*GPL-3.0-only",
        "?GPL-3*",
        "GPL-3.0-*",
        "see *",
        "LicenseRef-*",
        "LicenseRef-ours*",
    ] {
        assert_eq!(check_entry(entry), Ok(()), "`{entry}`");
    }
}

#[test]
fn a_hint_never_leads_to_what_matches_nothing() {
    for (entry, hint) in [
        ("Perl", "one by one: `GPL-1.0-or-later`, `Artistic-1.0-Perl`"),
        ("GPL-2+ and Expat", "one by one: `GPL-2.0-or-later`, `MIT`"),
        ("MIT OR ISC", "one by one: `MIT`, `ISC`"),
        ("Apache-2.0+", "one by one: `Apache-2.0*`"),
        ("public-domain", "use a wildcard: `public-domain*`"),
    ] {
        let why = check_entry(entry).unwrap_err();
        assert!(why.ends_with(hint), "{why}");
    }
    assert_eq!(standing(&[], &["Apache-2.0*"], "Apache-2.0+"), Standing::Denied);
    assert_eq!(standing(&[], &["public-domain*"], "public-domain"), Standing::Denied);
}

#[test]
fn the_page_shows_a_configuration_that_is_taken() {
    let page = include_str!("../README.md");
    let json = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config: Value = serde_json::from_str(json).unwrap();
    let facts = image(&[("a", &["MIT"]), ("b", &["Zlib"]), ("c", &["AGPL-3.0-only OR LGPL-3.0-only"])]);
    let judged = outcome(&config, &facts);
    assert_eq!(judged.verdict, Verdict::Hold);
    assert_eq!(judged.reasons[0].text, "`Zlib` is not in the list of those allowed: b 1.0");
}

proptest! {
    #[test]
    fn any_licence_text_has_a_standing(
        text in "\\PC{0,40}",
        near in "(MIT|GPL-2\\+?|Expat|Zlib|LicenseRef-a|and|or|AND|OR|WITH|,|\\(|\\)| ){0,12}",
        entry in "\\PC{0,20}",
    ) {
        for text in [&text, &near] {
            // An empty list denies nothing; a list of everything denies all.
            prop_assert_ne!(standing(&[], &[], text), Standing::Denied);
            prop_assert_eq!(standing(&["*"], &["*"], text), Standing::Denied);
            let _ = (standing(&[&entry], &[], text), check_entry(&entry));
        }
    }
}

/// Regression: the reader guessed a version for a name that has none, so a rule against `GPL-3.0*` let a package under `GPL` through.
#[test]
fn a_name_that_could_be_several_licences_is_not_known() {
    for name in ["GPL", "LGPL", "BSD", "GNU GPL v2"] {
        let outcome = outcome(&json!({"deny": ["GPL-3.0*"]}), &image(&[("guessed", &[name])]));
        assert_eq!(outcome.verdict, Verdict::Hold, "{name}: {outcome:?}");
    }
}
