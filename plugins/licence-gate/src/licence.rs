//! How one licence expression stands against the lists.
//!
//! Invariant: an expression stands as its best choice does (`OR` takes the better side, `AND` the worse), and a denied licence is
//! worse than an unknown one, which is worse than an unlisted one.

use crate::names;
use spdx::{Expression, LicenseItem, LicenseReq, Licensee, ParseMode};
use wharf_sdk::glob;

/// From what passes to what does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    Fine,
    Unlisted,
    Unknown,
    Denied,
}

const WILDCARDS: [char; 2] = ['*', '?'];

const FROM_THE_BEST: [Standing; 3] = [Standing::Fine, Standing::Unlisted, Standing::Unknown];

/// The lists of a configuration, ready to compare with.
pub(crate) struct Lists {
    allow: Vec<Entry>,
    deny: Vec<Entry>,
}

struct Entry {
    pattern: String,
    /// Where the entry is a licence rather than a pattern: it also satisfies "or later" of an earlier version.
    licensee: Option<Licensee>,
}

impl Entry {
    fn new(text: &str) -> Self {
        let text = text.trim();
        let licensee = licensee(text);
        let pattern = match &licensee {
            Some(licensee) => names::canonical(&licensee.to_string()),
            None => text.to_owned(),
        };
        Entry { pattern: pattern.to_ascii_lowercase(), licensee }
    }

    fn names(&self, licence: &str) -> bool {
        glob(&self.pattern, licence)
    }
}

impl Lists {
    pub(crate) fn new(allow: &[String], deny: &[String]) -> Self {
        let entries = |list: &[String]| list.iter().map(|text| Entry::new(text)).collect();
        Lists { allow: entries(allow), deny: entries(deny) }
    }

    /// How the licences of a component stand: an SPDX expression, a name that is as good, or any other text.
    pub(crate) fn standing(&self, text: &str) -> Standing {
        match parse(text) {
            Some(expression) => FROM_THE_BEST
                .into_iter()
                .find(|limit| expression.evaluate(|licence| self.of_licence(licence) <= *limit))
                .unwrap_or(Standing::Denied),
            None => self.of_text(&text.to_ascii_lowercase(), None),
        }
    }

    fn of_licence(&self, licence: &LicenseReq) -> Standing {
        let text = names::canonical(&licence.to_string()).to_ascii_lowercase();
        self.of_text(&text, Some(licence))
    }

    fn of_text(&self, text: &str, licence: Option<&LicenseReq>) -> Standing {
        let satisfies = |entry: &Entry| {
            entry
                .licensee
                .as_ref()
                .zip(licence)
                .is_some_and(|(licensee, licence)| licensee.satisfies(licence))
        };
        let known = licence.is_some_and(|licence| matches!(licence.license, LicenseItem::Spdx { .. }));
        if self.deny.iter().any(|entry| entry.names(text)) {
            Standing::Denied
        } else if self.allow.iter().any(|entry| entry.names(text) || satisfies(entry)) {
            Standing::Fine
        } else if !known {
            Standing::Unknown
        } else if self.allow.is_empty() {
            Standing::Fine
        } else {
            Standing::Unlisted
        }
    }
}

/// Without the guesses of the crate, for which `GPL` is version 2 and `BSD` has two clauses: what is not sure is not known.
const READING: ParseMode = ParseMode { allow_imprecise_license_names: false, ..ParseMode::LAX };

/// The entry as one licence; none where it is a pattern, or more than one.
fn licensee(entry: &str) -> Option<Licensee> {
    Licensee::parse_mode(&names::canonical(entry), READING).ok()
}

/// Reads an SPDX expression, or a name that surely means one.
fn parse(text: &str) -> Option<Expression> {
    let text = text.trim();
    Expression::parse_mode(text, READING)
        .ok()
        .or_else(|| Expression::parse_mode(&names::expression(text)?, READING).ok())
}

/// The first licence that the text names, or the text itself: what the host can narrow components by.
pub(crate) fn first_name(text: &str) -> String {
    let first = Expression::parse_mode(text, READING).ok().and_then(|expression| {
        let first = expression.requirements().next()?;
        Some(first.req.license.id().map_or_else(|| first.req.license.to_string(), |id| id.name.to_owned()))
    });
    first.unwrap_or_else(|| text.to_owned())
}

/// Whether a list may have this entry: a typing error in a list of what is denied would let things pass.
pub(crate) fn check_entry(entry: &str) -> Result<(), String> {
    let entry = entry.trim();
    if entry.is_empty() {
        return Err("this is empty".to_owned());
    }
    if entry.contains(WILDCARDS) {
        return check_pattern(entry);
    }
    if licensee(entry).is_some() {
        return Ok(());
    }
    Err(match parse(entry) {
        Some(expression) => {
            // `Apache-2.0+` is no single licence, but a pattern can say it.
            let licences = listed(&licences(&expression)).replace('+', "*");
            format!("`{entry}` is an expression; hint: list its licences one by one: {licences}")
        }
        None => {
            format!("`{entry}` is no SPDX licence; hint: for a text that is none, use a wildcard: `{entry}*`")
        }
    })
}

/// Whether a pattern matches the licence that is written in it. Licences are compared as SPDX writes them today: `Expat*` and
/// `GPL-3+*` would match none, and what they were to deny would pass.
fn check_pattern(entry: &str) -> Result<(), String> {
    let tail = entry.trim_start_matches(WILDCARDS);
    let written = tail.trim_end_matches(WILDCARDS);
    let Some(expression) = parse(written) else { return Ok(()) };
    let goes_on = written.len() < tail.len();
    let start = written.to_ascii_lowercase();
    let licences = licences(&expression);
    let matches = |licence: &String| {
        // An exception may follow, after a space: `MIT *`.
        let rest = format!("{licence} ").to_ascii_lowercase();
        rest.strip_prefix(&start).is_some_and(|rest| goes_on || rest.trim().is_empty())
    };
    if licences.iter().any(matches) {
        return Ok(());
    }
    let (written, licences) = (written.trim(), listed(&licences));
    Err(format!("`{entry}` matches no licence: `{written}` is read as SPDX's {licences}; hint: write that"))
}

/// The licences of an expression, as SPDX writes them today.
fn licences(expression: &Expression) -> Vec<String> {
    expression.requirements().map(|one| names::canonical(&one.req.to_string())).collect()
}

fn listed(licences: &[String]) -> String {
    licences.iter().map(|licence| format!("`{licence}`")).collect::<Vec<_>>().join(", ")
}
