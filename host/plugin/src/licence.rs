//! How the texts are read that name the licences of a component.
//!
//! Invariant: what a list allows goes by what a text surely says, what is looked for by what it may mean as well: `GPL` satisfies
//! nobody who allows version 2, and is found by whoever looks for it.

use spdx::{Expression, LicenseItem, LicenseReq, Licensee, ParseMode};

/// Without the guesses of the crate, for which `GPL` is version 2 and `BSD` has two clauses.
const SURE: ParseMode = ParseMode { allow_imprecise_license_names: false, ..ParseMode::LAX };

/// The licence text of a component.
#[derive(Debug)]
pub(crate) enum Licence {
    /// An SPDX expression.
    Sure(Expression),
    /// What it may mean.
    Guess(Expression),
    /// A text that is none.
    Text,
}

impl Licence {
    pub(crate) fn read(text: &str) -> Self {
        match Expression::parse_mode(text, SURE) {
            Ok(expression) => Self::Sure(expression),
            Err(_) => Expression::parse_mode(text, ParseMode::LAX).map_or(Self::Text, Self::Guess),
        }
    }

    /// Whether a licence or exception that this `text` names, or may name, is `wanted`.
    pub(crate) fn names(&self, text: &str, wanted: impl Fn(&str) -> bool) -> bool {
        let in_expression = |expression: &Expression| {
            expression.requirements().any(|one| {
                wanted(&name(&one.req.license))
                    || one.req.addition.as_ref().is_some_and(|addition| wanted(&addition.to_string()))
            })
        };
        match self {
            Self::Sure(expression) => in_expression(expression),
            Self::Guess(expression) => in_expression(expression) || wanted(text),
            Self::Text => wanted(text),
        }
    }

    /// Whether some choice that it leaves takes only licences that are `granted`.
    pub(crate) fn is_satisfied(&self, granted: impl Fn(&LicenseReq) -> bool) -> bool {
        matches!(self, Self::Sure(expression) if expression.evaluate(granted))
    }
}

/// The name of a licence without its `+`: what a glob is compared with.
fn name(item: &LicenseItem) -> String {
    item.id().map_or_else(|| item.to_string(), |id| id.name.to_owned())
}

/// A list of licences that may be in an image.
pub(crate) struct Allowed(Vec<Licensee>);

impl Allowed {
    /// Entries that are no SPDX identifiers allow no more than the text that they are.
    pub(crate) fn new<'a>(ids: impl IntoIterator<Item = &'a String>) -> Self {
        let mut licensees = Vec::new();
        for licensee in ids.into_iter().filter_map(|id| Licensee::parse_mode(id, SURE).ok()) {
            let LicenseReq { license, addition } = licensee.clone().into_req();
            licensees.extend(today(&license).map(|license| Licensee::new(license, addition)));
            licensees.push(licensee);
        }
        Self(licensees)
    }

    pub(crate) fn grants(&self, required: &LicenseReq) -> bool {
        let one_satisfies = |required: &LicenseReq| self.0.iter().any(|one| one.satisfies(required));
        let addition = || required.addition.clone();
        one_satisfies(required)
            || today(&required.license)
                .is_some_and(|license| one_satisfies(&LicenseReq { license, addition: addition() }))
    }
}

/// What an old identifier of GNU's is today: `GPL-2.0` is `GPL-2.0-only`. Those with a `+` are read so already.
fn today(license: &LicenseItem) -> Option<LicenseItem> {
    let old = license.id().filter(|id| id.is_gnu())?;
    let id = spdx::gnu_license_id(old.name, false)?;
    Some(LicenseItem::Spdx { id, or_later: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an allow-list with `GPL-2.0-only` let pass what is under any version of the GPL.
    #[test]
    fn only_what_is_sure_is_allowed() {
        let check = |text: &str, allowed: &str, expected: bool| {
            let allowed = Allowed::new([&allowed.to_owned()]);
            let satisfied = Licence::read(text).is_satisfied(|required| allowed.grants(required));
            assert_eq!(satisfied, expected, "`{text}`");
        };
        check("GPL", "GPL-2.0-only", false);
        check("BSD", "BSD-2-Clause", false);
        check("GPLv2 OR Zlib", "GPL-2.0-only", false);
        check("GPL-2.0-only", "GPL", false);
        check("GPL-2.0-only OR Zlib", "GPL-2.0-only", true);
        check("GPL-2.0", "GPL-2.0-only", true);
        check("GPL-2.0-only", "GPL-2.0", true);
        check("GPL-2.0+", "GPL-2.0-or-later", true);
        check("GPL-2.0+", "GPL-2.0-only", false);
        check("GPL-2.0 WITH Classpath-exception-2.0", "GPL-2.0-only", false);
        check("GPL-2.0 WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0", true);
    }

    #[test]
    fn a_guess_is_found() {
        let check = |text: &str, name: &str| {
            assert!(Licence::read(text).names(text, |one| one == name), "`{text}`");
        };
        check("MIT AND GPLv2", "GPL-2.0-only");
        check("GPL", "GPL-2.0-only");
        check("GPL", "GPL");
        check("GPL-2.0-only WITH Classpath-exception-2.0", "Classpath-exception-2.0");
        check("see the file COPYING", "see the file COPYING");
    }
}
