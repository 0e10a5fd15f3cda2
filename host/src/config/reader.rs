//! Reads a TOML document setting by setting and collects what is wrong instead of stopping at it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use wharf_oci::RepoPattern;

use super::sections::Section;
use super::{PROBLEMS_MAX, Problem};

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// As the reference says it.
    fn kind() -> String;
    /// The value, or why it is none, to follow the setting's name.
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
    /// As it is written in the file.
    fn show(&self) -> String;
}

/// A document, the places in it that were read, and what is wrong with it.
pub(super) struct Reader<'t> {
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    /// Where a setting that was read stands, for problems found later.
    places: BTreeMap<(&'static str, &'static str), usize>,
    /// Byte offset and message.
    problems: Vec<(Option<usize>, String)>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let syntax = errors.into_iter().map(|e| (e.span().map(|span| span.start), e.message().to_owned()));
        Reader { text, root, places: BTreeMap::new(), problems: syntax.collect() }
    }

    fn find(&self, table: &str, name: &str) -> Option<(usize, &Spanned<DeValue<'t>>)> {
        let mut within = self.root.get_ref();
        if !table.is_empty() {
            within = within.get(table)?.get_ref().as_table()?;
        }
        let (key, value) = within.get_key_value(name)?;
        Some((key.span().start, value))
    }

    /// The setting's value, or the default where the file says nothing or something wrong.
    pub(super) fn take<T: Setting>(&mut self, table: &'static str, name: &'static str, default: T) -> T {
        let Some((at, value)) = self.find(table, name) else { return default };
        let read = T::read(value.get_ref());
        self.places.insert((table, name), at);
        read.unwrap_or_else(|why| {
            self.problem_at(table, name, &why);
            default
        })
    }

    pub(super) fn check_bounds(
        &mut self,
        table: &'static str,
        name: &'static str,
        value: u64,
        bounds: RangeInclusive<u64>,
    ) {
        if !bounds.contains(&value) {
            let why = format!("it is {value}, not within {} to {}", bounds.start(), bounds.end());
            self.problem_at(table, name, &why);
        }
    }

    /// Tells a problem of a setting, where it stands.
    pub(super) fn problem_at(&mut self, table: &'static str, name: &'static str, why: &str) {
        let at = self.places.get(&(table, name)).copied();
        let dot = if table.is_empty() { "" } else { "." };
        self.problems.push((at, format!("`{table}{dot}{name}`: {why}")));
    }

    /// Tells what the file has and nobody knows, then every problem by line.
    pub(super) fn finish(mut self, known: &[Section]) -> Result<(), Vec<Problem>> {
        let unknown = self.unknown(known);
        self.problems.extend(unknown);
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.sort_by_key(|(at, _)| at.map_or(usize::MAX, |at| at));
        self.problems.dedup();
        let more = self.problems.len().saturating_sub(PROBLEMS_MAX);
        let line = |at: usize| self.text.get(..at).unwrap_or(self.text).matches('\n').count() + 1;
        let told = self.problems.iter().take(PROBLEMS_MAX);
        let mut problems: Vec<Problem> =
            told.map(|(at, message)| Problem { line: at.map(line), message: message.clone() }).collect();
        if more > 0 {
            problems.push(Problem { line: None, message: format!("and {more} more problems") });
        }
        Err(problems)
    }

    fn unknown(&self, known: &[Section]) -> Vec<(Option<usize>, String)> {
        let mut found = Vec::new();
        let settings = |table: &str| {
            let section = known.iter().find(|section| section.table == table);
            section.map(|section| section.settings.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        let tables: Vec<&str> = known.iter().map(|s| s.table).filter(|table| !table.is_empty()).collect();
        let top = settings("").unwrap_or_default();
        for (key, value) in self.root.get_ref() {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match (settings(name), value.get_ref().as_table()) {
                (Some(names), Some(table)) => {
                    for (key, _) in table {
                        if !names.contains(&key.get_ref().as_ref()) {
                            let shown = format!("{name}.{}", key.get_ref());
                            found.push((Some(key.span().start), unknown(&shown, key.get_ref(), &names)));
                        }
                    }
                }
                (Some(_), None) => found.push((Some(at), format!("`{name}` is a table: `[{name}]`"))),
                (None, Some(_)) => found.push((Some(at), unknown(&format!("[{name}]"), name, &tables))),
                (None, None) if top.contains(&name) => {}
                (None, None) => found.push((Some(at), unknown(name, name, &top))),
            }
        }
        found
    }
}

/// Longest name that is compared with those there are, in bytes.
const COMPARED_BYTES_MAX: usize = 64;

fn unknown(shown: &str, name: &str, there_are: &[&str]) -> String {
    let shown: String = shown.chars().take(COMPARED_BYTES_MAX * 2).collect();
    let near = there_are.iter().map(|known| (distance(name, known), known)).min();
    match near {
        Some((far, known)) if far <= 3 && far < known.len() => {
            format!("there is no setting `{shown}`; hint: did you mean `{known}`?")
        }
        _ => format!("there is no setting `{shown}`; hint: there are `{}`", there_are.join("`, `")),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > COMPARED_BYTES_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

impl Setting for bool {
    fn kind() -> String {
        "`true` or `false`".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("it is not {}", Self::kind()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    fn kind() -> String {
        "number".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        number.ok_or_else(|| "it is not a whole number of 0 or more".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn kind() -> String {
        "text".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "it is not a text in quotes".to_owned())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for PathBuf {
    fn kind() -> String {
        "path".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => Err("it is not a path in quotes".to_owned()),
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for SocketAddr {
    fn kind() -> String {
        "address and port".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| "it is not an address and port such as `\"0.0.0.0:5443\"`".to_owned())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for RepoPattern {
    fn kind() -> String {
        "repository pattern".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| "it is not a repository pattern in quotes".to_owned())?;
        text.parse().map_err(|error: wharf_oci::ParseError| error.to_string())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for IpAddr {
    fn kind() -> String {
        "address".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| "it is not an address such as `\"10.0.0.1\"`".to_owned())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl<T: Setting> Setting for Option<T> {
    fn kind() -> String {
        T::kind()
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "not set".to_owned(), T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> String {
        format!("list of {}", T::kind())
    }

    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| "it is not a list in brackets".to_owned())?;
        items.iter().map(|item| T::read(item.get_ref())).collect()
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}
