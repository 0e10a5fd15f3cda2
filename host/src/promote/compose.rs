//! One verdict of many: of each policy, for each platform.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a policy says, and what a binding makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may go on.
    Approve,
    /// Not now.
    Hold,
    /// Not this push.
    Reject,
    /// No opinion.
    Abstain,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Approve => "approve",
            Verdict::Hold => "hold",
            Verdict::Reject => "reject",
            Verdict::Abstain => "abstain",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why: a code for programs and a text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    pub code: String,
    pub text: String,
}

impl Reason {
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Reason { code: code.to_owned(), text: text.into() }
    }
}

/// What one policy says of one platform, after the host's own rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    pub plugin: String,
    /// None for an image of one platform.
    pub platform: Option<String>,
    pub verdict: Verdict,
    /// Targets that it chose; none is all of them.
    pub targets: Vec<String>,
    pub recheck_at_ms: Option<u64>,
}

/// What a binding says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    pub verdict: Verdict,
    /// Where an approved image goes, by name, in the binding's order.
    pub targets: Vec<String>,
    /// What the host itself adds to the policies' reasons.
    pub reasons: Vec<Reason>,
    pub recheck_at_ms: Option<u64>,
}

/// Composes the opinions of all policies of a binding about all `platforms` that count.
///
/// On each platform every policy approves or abstains and at least one approves; this holds on every platform. Where
/// approving policies choose among the binding's `targets`, it goes where all of them agree.
pub fn compose(platforms: &[Option<String>], opinions: &[Opinion], targets: &[String]) -> Composed {
    let mut reasons = Vec::new();
    let verdicts: Vec<Verdict> =
        platforms.iter().map(|platform| of_platform(platform.as_deref(), opinions)).collect();
    let has = |verdict| verdicts.contains(&verdict);
    let mut verdict = if verdicts.is_empty() {
        reasons.push(Reason::new("no-platform", "the image has no platform that counts"));
        Verdict::Hold
    } else if has(Verdict::Reject) {
        Verdict::Reject
    } else if has(Verdict::Hold) {
        Verdict::Hold
    } else if !has(Verdict::Approve) {
        reasons.push(Reason::new("no-opinion", "no policy approves it, and none refuses it"));
        Verdict::Abstain
    } else if has(Verdict::Abstain) {
        let silent = platforms.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Abstain);
        let names: Vec<&str> =
            silent.map(|(platform, _)| platform.as_deref().unwrap_or("the image")).collect();
        reasons.push(Reason::new(
            "platform-without-approval",
            format!("no policy approves {}", names.join(", ")),
        ));
        Verdict::Hold
    } else {
        Verdict::Approve
    };
    let targets = if verdict == Verdict::Approve { agreed(opinions, targets) } else { Vec::new() };
    if verdict == Verdict::Approve && targets.is_empty() {
        reasons.push(Reason::new("no-common-target", "the policies approve it for different targets"));
        verdict = Verdict::Hold;
    }
    let recheck_at_ms = opinions.iter().filter_map(|opinion| opinion.recheck_at_ms).min();
    Composed { verdict, targets, reasons, recheck_at_ms }
}

fn of_platform(platform: Option<&str>, opinions: &[Opinion]) -> Verdict {
    let mut approved = false;
    let mut held = false;
    for opinion in opinions.iter().filter(|opinion| opinion.platform.as_deref() == platform) {
        match opinion.verdict {
            Verdict::Reject => return Verdict::Reject,
            Verdict::Hold => held = true,
            Verdict::Approve => approved = true,
            Verdict::Abstain => {}
        }
    }
    match (held, approved) {
        (true, _) => Verdict::Hold,
        (false, true) => Verdict::Approve,
        (false, false) => Verdict::Abstain,
    }
}

/// Targets that every approving opinion allows.
fn agreed(opinions: &[Opinion], targets: &[String]) -> Vec<String> {
    let chosen: Vec<BTreeSet<&str>> = opinions
        .iter()
        .filter(|opinion| opinion.verdict == Verdict::Approve && !opinion.targets.is_empty())
        .map(|opinion| opinion.targets.iter().map(String::as_str).collect())
        .collect();
    targets.iter().filter(|target| chosen.iter().all(|set| set.contains(target.as_str()))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Verdict::{Abstain, Approve, Hold, Reject};
    use super::*;

    fn opinion(platform: Option<&str>, verdict: Verdict, targets: &[&str]) -> Opinion {
        Opinion {
            plugin: "p".to_owned(),
            platform: platform.map(str::to_owned),
            verdict,
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
            recheck_at_ms: None,
        }
    }

    fn check(verdicts: &[Verdict], expected: Verdict) {
        let opinions: Vec<Opinion> = verdicts.iter().map(|v| opinion(None, *v, &[])).collect();
        let composed = compose(&[None], &opinions, &["qa".to_owned()]);
        assert_eq!(composed.verdict, expected, "{verdicts:?}");
    }

    #[test]
    fn every_policy_approves_or_abstains_and_one_approves() {
        check(&[Approve], Approve);
        check(&[Approve, Abstain], Approve);
        check(&[Abstain, Abstain], Abstain);
        check(&[], Abstain);
        check(&[Approve, Hold], Hold);
        check(&[Abstain, Hold], Hold);
        check(&[Approve, Reject], Reject);
        check(&[Hold, Reject], Reject);
    }

    #[test]
    fn every_platform_passes_by_itself() {
        let platforms = [Some("linux/amd64".to_owned()), Some("linux/arm64".to_owned())];
        let of = |amd, arm| {
            let opinions = [opinion(Some("linux/amd64"), amd, &[]), opinion(Some("linux/arm64"), arm, &[])];
            compose(&platforms, &opinions, &["qa".to_owned()]).verdict
        };
        assert_eq!(of(Approve, Approve), Approve);
        assert_eq!(of(Approve, Abstain), Hold);
        assert_eq!(of(Approve, Hold), Hold);
        assert_eq!(of(Approve, Reject), Reject);
        assert_eq!(of(Abstain, Abstain), Abstain);
        assert_eq!(compose(&[], &[], &["qa".to_owned()]).verdict, Hold);
    }

    #[test]
    fn it_goes_where_all_that_choose_agree() {
        let targets = ["qa".to_owned(), "lab".to_owned()];
        let of = |a: &[&str], b: &[&str]| {
            compose(&[None], &[opinion(None, Approve, a), opinion(None, Approve, b)], &targets)
        };
        assert_eq!(of(&[], &[]).targets, targets);
        assert_eq!(of(&["lab"], &[]).targets, ["lab"]);
        assert_eq!(of(&["lab"], &["lab", "qa"]).targets, ["lab"]);
        assert_eq!(of(&["lab"], &["qa"]).verdict, Hold);
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![Just(Approve), Just(Hold), Just(Reject), Just(Abstain)]
    }

    proptest! {
        /// The rule as `plugin-seam.md` states it, for any number of platforms and policies.
        #[test]
        fn approval_is_exactly_the_rule(table in (0usize..4).prop_flat_map(|policies| {
            prop::collection::vec(prop::collection::vec(verdict(), policies), 0..4)
        })) {
            let platforms: Vec<Option<String>> = (0..table.len()).map(|i| Some(format!("linux/p{i}"))).collect();
            let opinions: Vec<Opinion> = table.iter().zip(&platforms).flat_map(|(row, platform)| {
                row.iter().map(|verdict| opinion(platform.as_deref(), *verdict, &[]))
            }).collect();
            let composed = compose(&platforms, &opinions, &["qa".to_owned()]);
            let passes = |row: &Vec<Verdict>| {
                row.iter().all(|v| matches!(v, Approve | Abstain)) && row.contains(&Approve)
            };
            let expected = !table.is_empty() && table.iter().all(passes);
            prop_assert_eq!(composed.verdict == Approve, expected);
            prop_assert_eq!(composed.verdict == Reject, table.iter().flatten().any(|v| *v == Reject));
            prop_assert_eq!(composed.targets.is_empty(), !expected);
        }
    }
}
