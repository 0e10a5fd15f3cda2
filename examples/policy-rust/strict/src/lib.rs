//! The next version of the policy beside it, under the same name: drop it over the first, and the next verdict is this one's.
use wharf_sdk::prelude::*;

wharf_sdk::config! {
    /// Lets images through that CI pushed, without critical findings, and without high ones that an update would remove.
    pub struct Rules {
        /// Who may push.
        pushed_by: Vec<String> = ["ci"],
    }
}

fn judge(rules: &Rules, image: &Image) -> Judgement {
    image.scanned()?;
    let mut outcome = approve();
    for finding in image.findings().at_least(Severity::Critical).first(5) {
        outcome.reject("critical", format!("{} in {} is critical", finding.id, finding.component_name));
    }
    for finding in image.findings().severity(Severity::High).fixable().first(5) {
        let (name, fixed_in) =
            (&finding.component_name, finding.fixed_in.as_deref().unwrap_or("a newer version"));
        outcome
            .hold("update", format!("{} in {name} is high and fixed in {fixed_in}: update it", finding.id));
    }
    let by = image.pushed_by();
    if !rules.pushed_by.contains(&by) {
        outcome.hold("pushed-by", format!("`{by}` pushed it, who is not one of {:?}", rules.pushed_by));
    }
    Ok(outcome)
}

wharf_sdk::policy! { name: "no-criticals", config: Rules, evaluate: judge }

#[cfg(test)]
mod tests {
    use super::wharf_policy::Plugin;
    use serde_json::json;
    use wharf_sdk::prelude::*;
    use wharf_sdk::testing::{self, Facts, finding, fixed_in};

    #[test]
    fn a_high_finding_is_held_once_it_has_a_fix() {
        let mut facts = Facts::scanned("dev/app", "1.4");
        let high = finding("CVE-2024-6119", Severity::High, "libssl3", "3.0.13");
        facts.add_finding(high.clone());
        assert_eq!(testing::judge::<Plugin>(&json!({}), &facts), Ok(approve()));
        facts.add_finding(fixed_in(high, "3.0.14"));
        let outcome = testing::judge::<Plugin>(&json!({}), &facts).unwrap();
        assert_eq!(outcome.verdict, Verdict::Hold);
        assert_eq!(
            outcome.reasons[0].text,
            "CVE-2024-6119 in libssl3 is high and fixed in 3.0.14: update it"
        );
    }
}
