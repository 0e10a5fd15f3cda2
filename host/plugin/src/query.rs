//! Questions about components and findings, as data: the trace stores them, and asks them again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::facts::{Column, Component, Confidence, Finding, NameKey, PlatformFacts, SealedFacts, Severity};
use crate::licence::Allowed;
use crate::pattern::{Glob, Range, VersionOrder};
use crate::sandbox::Deadline;

#[cfg(test)]
mod tests;

/// The most entries of the list of `licence-outside`.
pub const MAX_ALLOWED_LICENCES: usize = 1_024;

/// The most criteria of one case in one question (globs for the name, ranges …).
pub const MAX_CRITERIA: usize = 64;

/// A fact by its name, and the glob that its value matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactGlob {
    /// As `component-fact` and `finding-fact` take it.
    pub name: String,
    /// What its value matches.
    pub glob: String,
}

impl FactGlob {
    fn holds(&self, facts: &BTreeMap<String, String>, clock: Clock<'_>) -> bool {
        facts.get(&self.name).is_some_and(|value| step(clock) && Glob::new(&self.glob).matches(value))
    }
}

/// Criteria of components; all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ComponentQuery {
    /// Globs that the name matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub name: Vec<String>,
    /// Globs that the source package's name matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_name: Vec<String>,
    /// Globs that the name or the source package's name matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_name: Vec<String>,
    /// Ranges that the version is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub version: Vec<String>,
    /// Package URL types, all equal to the component's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ecosystem: Vec<String>,
    /// Globs, each matching a licence that is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licence: Vec<String>,
    /// Lists, none of which satisfies all licence expressions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licence_outside: Vec<BTreeSet<String>>,
    /// No licence is known.
    #[serde(skip_serializing_if = "is_false")]
    pub unlicensed: bool,
    /// Layers, all equal to the component's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<u32>,
    /// Globs that the path matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The least confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_at_least: Option<Confidence>,
    /// Facts that are known, and match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fact: Vec<FactGlob>,
    /// Hints match as well.
    #[serde(skip_serializing_if = "is_false")]
    pub include_hints: bool,
    /// Components match whose version cannot be compared.
    #[serde(skip_serializing_if = "is_false")]
    pub include_undecided: bool,
}

/// Criteria of findings; all hold, and of the lists `severity` and `id` one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FindingQuery {
    /// Rated as this or worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Severity>,
    /// Rated as one of these.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub severity: BTreeSet<Severity>,
    /// A score of at least so many tenths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cvss_at_least: Option<u8>,
    /// A score under so many tenths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cvss_below: Option<u8>,
    /// No score.
    #[serde(skip_serializing_if = "is_false")]
    pub unscored: bool,
    /// Globs, one of which matches the identifier or an alias.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id: Vec<String>,
    /// Globs that the source matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    /// A version without it exists.
    #[serde(skip_serializing_if = "is_false")]
    pub fixable: bool,
    /// Known to be used by attackers.
    #[serde(skip_serializing_if = "is_false")]
    pub known_exploited: bool,
    /// Published before this, in ms since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_before_ms: Option<u64>,
    /// Globs that the component's or its source package's name matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub component_name: Vec<String>,
    /// Layers, all equal to the component's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layer: Vec<u32>,
    /// Facts that are known, and match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fact: Vec<FactGlob>,
    /// Leaves out what is only possible.
    #[serde(skip_serializing_if = "is_false")]
    pub certain: bool,
    /// Waived findings match as well.
    #[serde(skip_serializing_if = "is_false")]
    pub include_waived: bool,
    /// Findings of hints match as well.
    #[serde(skip_serializing_if = "is_false")]
    pub include_hints: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// The clock of the call that asks, where one does. Once it is up nothing matches any more.
pub(crate) type Clock<'a> = Option<&'a Deadline>;

pub(crate) fn step(clock: Clock<'_>) -> bool {
    clock.is_none_or(Deadline::step)
}

/// Globs of one sort, ready to be matched.
struct Globs<'a> {
    globs: Vec<Glob<'a>>,
    clock: Clock<'a>,
}

impl<'a> Globs<'a> {
    fn new(texts: &'a [String], clock: Clock<'a>) -> Self {
        Self { globs: texts.iter().map(|text| Glob::new(text)).collect(), clock }
    }

    fn all(&self, text: &str) -> bool {
        self.globs.iter().all(|glob| step(self.clock) && glob.matches(text))
    }

    fn any(&self, text: &str) -> bool {
        self.globs.iter().any(|glob| step(self.clock) && glob.matches(text))
    }

    /// Each matches the component's name or that of its source package.
    fn all_of_either(&self, component: &Component) -> bool {
        let either =
            |glob: &Glob<'_>| glob.matches(&component.name) || glob.matches(NameKey::Source.of(component));
        self.globs.iter().all(|glob| step(self.clock) && either(glob))
    }

    /// The one that says most about how a text begins.
    fn longest(&self) -> Option<Glob<'a>> {
        self.globs.iter().copied().max_by_key(|glob| glob.prefix().len())
    }
}

/// A component query with its globs and ranges read and its licence lists applied.
pub(crate) struct ComponentMatcher<'q, 'f> {
    query: &'q ComponentQuery,
    name: Globs<'q>,
    source_name: Globs<'q>,
    any_name: Globs<'q>,
    path: Globs<'q>,
    /// None: one does not read.
    ranges: Option<Vec<Range>>,
    /// For each list of `licence-outside`, the licence texts of the image that it does not satisfy: there are few, however
    /// many components there are.
    outside: Vec<BTreeSet<&'f str>>,
    facts: &'f SealedFacts,
    order: VersionOrder,
    clock: Clock<'q>,
}

impl<'q, 'f> ComponentMatcher<'q, 'f> {
    /// Ranges that cannot be read end the call that asks with them; in a stored trace they match nothing.
    pub(crate) fn new(
        query: &'q ComponentQuery,
        facts: &'f SealedFacts,
        order: VersionOrder,
        clock: Clock<'q>,
    ) -> Self {
        Self {
            query,
            name: Globs::new(&query.name, clock),
            source_name: Globs::new(&query.source_name, clock),
            any_name: Globs::new(&query.any_name, clock),
            path: Globs::new(&query.path, clock),
            ranges: query.version.iter().map(|text| Range::parse(text)).collect::<Result<_, _>>().ok(),
            outside: query.licence_outside.iter().map(|allowed| unsatisfied(allowed, facts, clock)).collect(),
            facts,
            order,
            clock,
        }
    }

    /// The components of the platform at `position` that match, by index.
    pub(crate) fn select(&self, position: usize) -> Vec<(u32, &'f Component)> {
        let components = self.facts.facts().platforms.get(position).map_or(&[][..], |p| &p.components);
        // Most questions are about one name, and the names are sorted.
        let keyed: [(&[NameKey], _); 3] = [
            (&[NameKey::Own], self.name.longest()),
            (&[NameKey::Source], self.source_name.longest()),
            (&[NameKey::Own, NameKey::Source], self.any_name.longest()),
        ];
        let narrow =
            keyed.into_iter().find_map(|(keys, glob)| Some((keys, glob.filter(|g| !g.prefix().is_empty())?)));
        match narrow {
            Some((keys, glob)) => {
                let of = |key: &NameKey| self.facts.named(position, *key, glob.prefix(), glob.is_exact());
                let mut named: Vec<u32> = keys.iter().flat_map(of).copied().collect();
                named.sort_unstable();
                named.dedup();
                let found =
                    named.into_iter().filter_map(|index| Some((index, components.get(index as usize)?)));
                found.filter(|(_, component)| self.matches(component)).collect()
            }
            None => (0u32..).zip(components).filter(|(_, component)| self.matches(component)).collect(),
        }
    }

    /// How many match.
    pub(crate) fn count(&self, position: usize) -> u32 {
        u32::try_from(self.select(position).len()).unwrap_or(u32::MAX)
    }

    fn matches(&self, component: &Component) -> bool {
        let query = self.query;
        (query.include_hints || component.confidence != Confidence::Hint)
            && query.confidence_at_least.is_none_or(|least| component.confidence >= least)
            && query.ecosystem.iter().all(|ecosystem| *ecosystem == component.ecosystem)
            && query.layer.iter().all(|layer| component.layer == Some(*layer))
            && self.name.all(&component.name)
            && self.source_name.all(NameKey::Source.of(component))
            && self.any_name.all_of_either(component)
            && (query.path.is_empty() || component.path.as_deref().is_some_and(|path| self.path.all(path)))
            && (!query.unlicensed || component.licences.is_empty())
            && query.licence.iter().all(|glob| self.names_licence(component, glob))
            && self.ranges.as_ref().is_some_and(|all| all.iter().all(|range| self.in_range(component, range)))
            && query.fact.iter().all(|fact| fact.holds(&component.facts, self.clock))
            && self
                .outside
                .iter()
                .all(|texts| component.licences.iter().any(|text| texts.contains(text.as_str())))
    }

    fn in_range(&self, component: &Component, range: &Range) -> bool {
        if !step(self.clock) {
            return false;
        }
        let version = component.version.as_deref();
        version
            .and_then(|version| range.contains(version, &component.ecosystem, self.order))
            .unwrap_or(self.query.include_undecided)
    }

    fn names_licence(&self, component: &Component, glob: &str) -> bool {
        let glob = glob.to_ascii_lowercase();
        let glob = Glob::new(&glob);
        let wanted = |name: &str| step(self.clock) && glob.matches(&name.to_ascii_lowercase());
        let licences = self.facts.licences(self.clock);
        // None are known once the time is up.
        let names = |text: &String| licences.get(text).is_some_and(|licence| licence.names(text, wanted));
        component.licences.iter().any(names)
    }
}

/// The licence texts of the image that cannot be satisfied with `allowed` alone.
fn unsatisfied<'f>(
    allowed: &BTreeSet<String>,
    facts: &'f SealedFacts,
    clock: Clock<'_>,
) -> BTreeSet<&'f str> {
    let listed = Allowed::new(allowed);
    let granted = |required: &spdx::LicenseReq| step(clock) && listed.grants(required);
    let texts = facts.licences(clock).iter();
    texts
        .filter(|(text, licence)| !allowed.contains(*text) && !licence.is_satisfied(granted))
        .map(|(text, _)| text.as_str())
        .collect()
}

/// A finding query with its globs read.
pub(crate) struct FindingMatcher<'q, 'f> {
    query: &'q FindingQuery,
    id: Globs<'q>,
    source: Globs<'q>,
    component_name: Globs<'q>,
    /// One bit for each severity that matches.
    severities: u8,
    facts: &'f SealedFacts,
    clock: Clock<'q>,
}

impl<'q, 'f> FindingMatcher<'q, 'f> {
    pub(crate) fn new(query: &'q FindingQuery, facts: &'f SealedFacts, clock: Clock<'q>) -> Self {
        Self {
            query,
            id: Globs::new(&query.id, clock),
            source: Globs::new(&query.source, clock),
            component_name: Globs::new(&query.component_name, clock),
            severities: match query.severity.is_empty() {
                true => u8::MAX,
                false => query.severity.iter().fold(0, |bits, one| bits | severity_bit(*one)),
            },
            facts,
            clock,
        }
    }

    /// The findings of the platform at `position` that match, with their indices. The columns decide first: most questions
    /// read nothing else.
    pub(crate) fn select(&self, position: usize) -> impl Iterator<Item = (u32, &'f Finding)> {
        let platform = self.facts.facts().platforms.get(position);
        let findings = platform.map_or(&[][..], |p| &p.findings);
        (0u32..)
            .zip(self.facts.columns(position).iter().zip(findings))
            .filter(|(_, (column, _))| self.column_matches(column))
            .map(|(index, (_, finding))| (index, finding))
            .filter(move |(_, finding)| platform.is_some_and(|p| self.finding_matches(finding, p)))
    }

    /// How many match.
    pub(crate) fn count(&self, position: usize) -> u32 {
        if self.columns_suffice() {
            let tally = self.facts.tally(position).iter();
            return tally.filter(|(column, _)| self.column_matches(column)).map(|(_, count)| count).sum();
        }
        u32::try_from(self.select(position).count()).unwrap_or(u32::MAX)
    }

    fn finding_matches(&self, finding: &Finding, platform: &PlatformFacts) -> bool {
        let query = self.query;
        let component = platform.components.get(finding.component as usize);
        (query.id.is_empty()
            || self.id.any(&finding.id)
            || finding.aliases.iter().any(|alias| self.id.any(alias)))
            && self.source.all(&finding.source)
            && query
                .published_before_ms
                .is_none_or(|bound| finding.published_at_ms.is_some_and(|at| at < bound))
            && query.layer.iter().all(|layer| component.is_some_and(|c| c.layer == Some(*layer)))
            && query.fact.iter().all(|fact| fact.holds(&finding.facts, self.clock))
            && (query.component_name.is_empty()
                || component.is_some_and(|component| self.component_name.all_of_either(component)))
    }

    fn columns_suffice(&self) -> bool {
        self.query.id.is_empty()
            && self.query.source.is_empty()
            && self.query.component_name.is_empty()
            && self.query.layer.is_empty()
            && self.query.fact.is_empty()
            && self.query.published_before_ms.is_none()
    }

    fn column_matches(&self, column: &Column) -> bool {
        let query = self.query;
        let flags = column.flags;
        let scored = column.cvss_tenths != Column::UNSCORED;
        (query.include_waived || flags & Column::WAIVED == 0)
            && (query.include_hints || flags & Column::HINT == 0)
            && (!query.certain || flags & Column::POSSIBLE == 0)
            && (!query.fixable || flags & Column::FIXABLE != 0)
            && (!query.known_exploited || flags & Column::EXPLOITED != 0)
            && query.at_least.is_none_or(|least| column.severity >= least)
            && (self.severities & severity_bit(column.severity) != 0)
            && query.cvss_at_least.is_none_or(|least| scored && column.cvss_tenths >= least)
            && query.cvss_below.is_none_or(|bound| scored && column.cvss_tenths < bound)
            && !(query.unscored && scored)
    }
}

fn severity_bit(severity: Severity) -> u8 {
    1 << severity as u8
}
