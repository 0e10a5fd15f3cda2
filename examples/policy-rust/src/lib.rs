use wharf_sdk::prelude::*;

wharf_sdk::config! {
    /// Lets images through that CI pushed and that have no critical finding.
    pub struct Rules {
        /// Who may push.
        pushed_by: Vec<String> = ["ci"],
    }
}

fn judge(rules: &Rules, image: &Image) -> Judgement {
    image.scanned()?; // an image that was not scanned is held, not clean
    let mut outcome = approve();
    let critical = image.findings().at_least(Severity::Critical);
    if let Some(worst) = critical.first(1).first() {
        let text = format!(
            "{} critical findings, such as {} in {}",
            critical.count(),
            worst.id,
            worst.component_name
        );
        outcome.reject("critical", text);
    }
    let by = image.pushed_by();
    if !rules.pushed_by.contains(&by) {
        outcome.hold("pushed-by", format!("`{by}` pushed it, who is not one of {:?}", rules.pushed_by));
    }
    if outcome.verdict == Verdict::Approve {
        outcome = outcome.note("no-criticals", format!("no critical finding, and `{by}` pushed it"));
    }
    Ok(outcome)
}

wharf_sdk::policy! { config: Rules, evaluate: judge }

#[cfg(test)]
mod tests {
    use super::wharf_policy::Plugin;
    use serde_json::json;
    use wharf_sdk::prelude::*;
    use wharf_sdk::testing::{self, Facts, finding};

    #[test]
    fn a_critical_finding_is_rejected() {
        let mut facts = Facts::scanned("dev/app", "1.4");
        let outcome = testing::judge::<Plugin>(&json!({}), &facts).unwrap();
        assert_eq!(outcome.verdict, Verdict::Approve);
        assert_eq!(outcome.reasons[0].text, "no critical finding, and `ci` pushed it");
        facts.add_finding(finding("CVE-2024-3094", Severity::Critical, "xz-utils", "5.6.0"));
        let outcome = testing::judge::<Plugin>(&json!({}), &facts).unwrap();
        assert_eq!(outcome.verdict, Verdict::Reject);
        assert_eq!(outcome.reasons[0].text, "1 critical findings, such as CVE-2024-3094 in xz-utils");
    }

    #[test]
    fn others_than_ci_are_held() {
        let facts = Facts::scanned("dev/app", "1.4");
        let outcome = testing::judge::<Plugin>(&json!({"pushed_by": ["release-bot"]}), &facts).unwrap();
        assert_eq!(outcome.verdict, Verdict::Hold);
    }

    #[test]
    fn what_was_not_scanned_is_held() {
        let facts = Facts::unscanned("dev/app", "1.4");
        assert_eq!(testing::judge::<Plugin>(&json!({}), &facts).unwrap().verdict, Verdict::Hold);
    }
}
