//! `licence-gate`: lets images through by the licences of what is in them.
//!
//! ```json
//! {"allow": ["MIT", "Apache-2.0", "BSD-*", "LGPL-*"], "deny": ["AGPL-*"], "missing": "ignore"}
//! ```
//! An expression passes if some choice that it leaves passes: with `GPL-3.0-only` denied, `MIT OR GPL-3.0-only` does and
//! `MIT AND GPL-3.0-only` does not. A licence in both lists is denied. `licence.rs` judges one expression, `names.rs` reads
//! names that are no SPDX but as good as that.
//!
//! Invariant: an image that was not fully scanned is held, and what is not known does not pass unless the configuration says so.

mod licence;
mod names;
#[cfg(test)]
mod tests;

use licence::{Lists, Standing};
use wharf_sdk::image::{Components, knowledge_text};
use wharf_sdk::prelude::*;

/// The most entries in a list, and the most licences that reasons are given for.
const MAX_ENTRIES: usize = 1_000;
const MAX_REASONS: usize = 20;

/// How many components a reason names.
const EXAMPLES: usize = 3;

wharf_sdk::config! {
    /// What happens to an image because of a licence.
    pub(crate) enum Then {
        /// It waits for somebody to change the lists or the image.
        Hold = "hold",
        /// This push is refused.
        Reject = "reject",
        /// Nothing.
        Ignore = "ignore",
    }
}

wharf_sdk::config! {
    /// Lets images through by the licences of their components. Lists take SPDX licences (`MIT`, `GPL-2.0-only WITH
    /// Classpath-exception-2.0`), and `*` and `?` as wildcards (`GPL-3.0*`).
    pub(crate) struct Gate {
        /// Licences that may be in an image; empty: all that are not denied.
        allow: Vec<String> = [],
        /// Licences that may not, whatever else allows them.
        deny: Vec<String> = [],
        /// What happens for a denied licence.
        denied: Then = "reject",
        /// What happens for a licence that `allow` does not list, where it lists any.
        unlisted: Then = "hold",
        /// What happens for a text that names no licence of SPDX, unless a list has it.
        unknown: Then = "hold",
        /// What happens for a component of which no licence is known.
        missing: Then = "hold",
        /// Components that are not looked at, by name, with wildcards.
        exempt: Vec<String> = [],
    }
}

impl Gate {
    /// What happens for a standing, the code of its reason, and what it says of a licence.
    fn consequence(&self, standing: Standing) -> (Then, &'static str, &'static str) {
        match standing {
            Standing::Fine => (Then::Ignore, "fine", "may be in an image"),
            Standing::Unlisted => (self.unlisted, "unlisted-licence", "is not in the list of those allowed"),
            Standing::Unknown => (self.unknown, "unknown-licence", "is no licence that SPDX knows"),
            Standing::Denied => (self.denied, "denied-licence", "is denied"),
        }
    }

    fn counts(&self, component: &Component) -> bool {
        !self.exempt.iter().any(|pattern| wharf_sdk::glob(pattern, &component.name))
    }

    /// Up to a few of the components that count, as text; none if there is none.
    fn examples(&self, components: &Components<'_>, wanted: impl Fn(&Component) -> bool) -> Option<String> {
        let found = components.iter().filter(|component| wanted(component) && self.counts(component));
        let mut names: Vec<String> = found.take(EXAMPLES + 1).map(|c| named(&c)).collect();
        let and = if names.len() > EXAMPLES { " and others" } else { "" };
        names.truncate(EXAMPLES);
        (!names.is_empty()).then(|| format!("{}{and}", names.join(", ")))
    }
}

fn named(component: &Component) -> String {
    let version = component.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("{}{version}", component.name)
}

fn validate(gate: &Gate) -> Vec<Problem> {
    let mut problems = Vec::new();
    if gate.allow.is_empty() && gate.deny.is_empty() {
        problems.push(problem("", "both lists are empty; state what is allowed or what is denied"));
    }
    for (list, entries) in [("allow", &gate.allow), ("deny", &gate.deny)] {
        if entries.len() > MAX_ENTRIES {
            problems.push(problem(format!("/{list}"), format!("there are more than {MAX_ENTRIES} entries")));
        }
        for (at, entry) in entries.iter().enumerate() {
            if let Err(why) = licence::check_entry(entry) {
                problems.push(problem(format!("/{list}/{at}"), why));
            }
        }
    }
    problems
}

fn judge(gate: &Gate, image: &Image<'_>) -> Outcome {
    let scan = image.scan();
    if scan != Knowledge::Complete {
        return hold(
            "not-scanned",
            format!("the licences are not known: the image {}", knowledge_text(scan)),
        );
    }
    let lists = Lists::new(&gate.allow, &gate.deny);
    let mut outcome = approve();
    for text in image.licences() {
        let standing = lists.standing(&text);
        let (then, code, what) = gate.consequence(standing);
        if then == Then::Ignore {
            continue;
        }
        if let Some(components) = components_with(gate, image, &text) {
            add(&mut outcome, then, code, format!("`{text}` {what}: {components}"));
        }
        if outcome.reasons.len() == MAX_REASONS {
            return outcome.note("more-licences", "there may be more licences that do not pass");
        }
    }
    if gate.missing != Then::Ignore {
        let unlicensed = image.components().unlicensed();
        if unlicensed.any()
            && let Some(components) = gate.examples(&unlicensed, |_| true)
        {
            add(
                &mut outcome,
                gate.missing,
                "missing-licence",
                format!("no licence is known of {components}"),
            );
        }
    }
    if outcome.verdict == Verdict::Approve {
        return outcome.note("licences-pass", "all licences may be in an image");
    }
    outcome
}

fn add(outcome: &mut Outcome, then: Then, code: &str, text: String) {
    match then {
        Then::Ignore => {}
        Then::Hold => outcome.hold(code, text),
        Then::Reject => outcome.reject(code, text),
    }
}

/// The components that have exactly this text and count. The host narrows by a licence that the text names; where it reads the
/// text otherwise, all components are looked through.
fn components_with(gate: &Gate, image: &Image<'_>, text: &str) -> Option<String> {
    let has = |component: &Component| component.licences.iter().any(|one| one == text);
    let narrowed = image.components().licence(&licence::first_name(text));
    if narrowed.any() {
        return gate.examples(&narrowed, has);
    }
    gate.examples(&image.components(), has)
}

wharf_sdk::policy! {
    config: Gate,
    validate: validate,
    evaluate: judge,
}
