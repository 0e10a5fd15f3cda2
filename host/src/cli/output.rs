//! What a command prints: a table for people or JSON for programs.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::visible::{self, plain};

/// Narrowest width that a table is fitted to; below it lines wrap.
const WIDTH_MIN: usize = 60;
/// A column that gives way keeps at least this many characters.
const CELL_MIN: usize = 12;

/// In which form a command answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // Not doc comments: values with texts of their own make every help page four times as long.
    // For people.
    #[default]
    Table,
    // For programs: the REST API's own form.
    Json,
}

/// How to answer.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct Output {
    /// In which form to answer
    #[arg(long, short, global = true, value_enum, default_value_t, value_name = "FORM")]
    output: Format,
}

impl Output {
    /// Prints `value` as JSON, or as what `table` makes of it.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(super) fn show<T: Serialize + ?Sized>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.output {
            Format::Json => print_json(value),
            Format::Table => print(&table(value)),
        }
    }

    /// Says what was done where nothing was asked for: `remark` to people, and to programs `value`, which names what it was
    /// done to and how that is now.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(super) fn done<T: Serialize + ?Sized>(
        self,
        value: &T,
        remark: impl std::fmt::Display,
    ) -> anyhow::Result<()> {
        note(remark);
        match self.output {
            Format::Json => print_json(value),
            Format::Table => Ok(()),
        }
    }

    /// Prints one of a stream of values: one JSON document a line, or a line of text, cut to the terminal.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(super) fn line<T: Serialize>(self, value: &T, line: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self.output {
            Format::Json => write(&format!("{}\n", visible::json(&serde_json::to_string(value)?))),
            Format::Table => print(&format!("{}\n", shortened(&line(value), width()))),
        }
    }
}

/// Writes a text to standard output.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    write(&visible::lines(text))
}

/// Writes a value to standard output as JSON, over several lines.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    write(&format!("{}\n", visible::json(&serde_json::to_string_pretty(value)?)))
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A remark or a step of long work, on standard error; lost where that cannot be written.
pub(super) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{}", visible::lines(&text.to_string()));
}

/// Columns of standard output's terminal; without one nothing is shortened, as what reads it may search it.
fn width() -> usize {
    let out = io::stdout();
    if !out.is_terminal() {
        return usize::MAX;
    }
    let size = rustix::termios::tcgetwinsize(&out);
    size.map_or(usize::MAX, |size| usize::from(size.ws_col).max(WIDTH_MIN))
}

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Left,
    /// For numbers.
    Right,
    /// Shortened where the table is wider than the terminal.
    Gives,
    /// Left out where the table is wider than the terminal, before anything is shortened.
    Yields,
}

/// Rows under a header, aligned by spaces.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<String>,
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    /// Printed instead of a table without rows.
    empty: &'static str,
}

impl Table {
    /// A table of these columns: `>NAME` aligns to the right; where the terminal is narrow, `?NAME` is left out, the last
    /// of them first, then `~NAME` is shortened.
    pub(super) fn new(head: &[&str], empty: &'static str) -> Self {
        let (columns, head) = head
            .iter()
            .map(|name| match name.split_at_checked(1) {
                Some((">", name)) => (Column::Right, name.to_owned()),
                Some(("~", name)) => (Column::Gives, name.to_owned()),
                Some(("?", name)) => (Column::Yields, name.to_owned()),
                _ => (Column::Left, (*name).to_owned()),
            })
            .unzip();
        Table { head, columns, rows: Vec::new(), empty }
    }

    /// Adds a row; empty cells are shown as `-`.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.head.len());
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { plain(&cell) };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// The text, fitted to the terminal.
    pub(super) fn text(&self) -> String {
        self.fitted(width())
    }

    pub(super) fn fitted(&self, width: usize) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        let widths = self.widths(width);
        let mut out = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            let cells = row.iter().zip(&self.columns).zip(&widths);
            for ((cell, column), width) in cells.filter(|(_, width)| **width > 0) {
                let cell = shortened(cell, *width);
                let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
                match column {
                    Column::Right => line.extend([&*gap, &*cell, "  "]),
                    Column::Left | Column::Gives | Column::Yields => line.extend([&*cell, &*gap, "  "]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Width of each column: its widest cell; 0 for those left out, and less for those that give way, the widest first.
    fn widths(&self, width: usize) -> Vec<usize> {
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let mut widths: Vec<usize> = (0..self.head.len())
            .map(|at| rows().map(|row| row[at].chars().count()).max().unwrap_or(0))
            .collect();
        let gaps = 2 * self.head.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(width);
        for at in (0..widths.len()).rev().filter(|at| self.columns[*at] == Column::Yields) {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(widths[at] + 2);
            widths[at] = 0;
        }
        while over > 0 {
            let gives =
                |(at, width): &(usize, &usize)| self.columns[*at] == Column::Gives && **width > CELL_MIN;
            let Some((at, _)) = widths.iter().enumerate().filter(gives).max_by_key(|(_, width)| **width)
            else {
                break;
            };
            widths[at] -= 1;
            over -= 1;
        }
        widths
    }
}

/// Names with their values, one a line, aligned.
pub(super) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
    let mut out = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        for (at, line) in value.lines().enumerate() {
            let name = if at == 0 { name } else { &"" };
            out.push_str(format!("{name:width$}{}", plain(line)).trim_end());
            out.push('\n');
        }
    }
    out
}

/// `text`, cut to `width` characters with `…` in place of the rest: the end of a sentence, and the middle of a name, which is
/// told from others by its end (a tag) as well as by its beginning.
fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let behind = if text.contains(' ') { 0 } else { kept / 2 };
    let (first, last) = (text.chars().take(kept - behind), text.chars().skip(length - behind));
    first.chain(['…']).chain(last).collect()
}

/// `1 record`, `2 records`.
pub(super) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The name of a finding, with what is to be seen of it at once.
pub(super) fn finding(id: &str, is_exploited: bool, is_possible: bool) -> String {
    match (is_exploited, is_possible) {
        (false, false) => id.to_owned(),
        (true, false) => format!("{id} (exploited)"),
        (false, true) => format!("{id} (possible)"),
        (true, true) => format!("{id} (exploited, possible)"),
    }
}

/// A size for people: `812 B`, `4.1 MiB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = n as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// How much of a whole it is: `12.0 MiB of 48.0 MiB, 25 %`.
pub(super) fn part(n: u64, whole: u64) -> String {
    let percent = (n as f64 / whole.max(1) as f64 * 100.0).min(100.0);
    format!("{} of {}, {percent:.0} %", bytes(n), bytes(whole))
}

/// How long ago it was, for people: `3 min ago`; `in 2 h` for what is to come.
pub(super) fn ago(then_ms: u64, now_ms: u64) -> String {
    match now_ms.checked_sub(then_ms) {
        Some(ms) if ms < 1000 => "just now".to_owned(),
        Some(ms) => format!("{} ago", span(ms)),
        None => {
            // To the nearest, or what holds for 90 days would end "in 89 d" as soon as it is there.
            let ms = then_ms - now_ms;
            format!("in {}", span(ms.saturating_add(unit(ms).0 / 2)))
        }
    }
}

/// A length of time in its largest unit.
pub(super) fn span(ms: u64) -> String {
    let (unit_ms, name) = unit(ms);
    format!("{} {name}", ms / unit_ms)
}

/// The unit that a length of time is told in: its milliseconds and its name.
fn unit(ms: u64) -> (u64, &'static str) {
    match ms / 1000 {
        0..60 => (1000, "s"),
        60..3600 => (60_000, "min"),
        3600..172_800 => (3_600_000, "h"),
        _ => (86_400_000, "d"),
    }
}

/// A time as RFC 3339 writes it, to the second, UTC.
pub(super) fn time(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// `sha256:` and the first twelve digits: enough to tell digests apart, short enough for a table.
pub(super) fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.get(..12).unwrap_or(hex)),
        _ => digest.to_owned(),
    }
}

/// This machine's clock, milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", ">SIZE", "~REASON"], "nothing here");
        table.row(["dev/app".into(), bytes(812), "two critical findings can be fixed: CVE-2024-1".into()]);
        table.row(["qa/app".into(), bytes(4_300_000), String::new()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        insta::assert_snapshot!(table().fitted(100), @r"
        NAME        SIZE  REASON
        dev/app    812 B  two critical findings can be fixed: CVE-2024-1
        qa/app   4.1 MiB  -
        ");
    }

    #[test]
    fn a_narrow_terminal_shortens_what_gives_way() {
        insta::assert_snapshot!(table().fitted(44), @r"
        NAME        SIZE  REASON
        dev/app    812 B  two critical findings can…
        qa/app   4.1 MiB  -
        ");
    }

    /// What was cut of `dev/…:1.4` was the tag.
    #[test]
    fn a_name_keeps_both_its_ends() {
        let check = |text: &str, width: usize, expected: &str| {
            assert_eq!(shortened(text, width), expected, "{text} in {width}");
        };
        check("dev/team/frontend/app:1.4", 25, "dev/team/frontend/app:1.4");
        check("dev/team/frontend/app:1.4", 24, "dev/team/fro…end/app:1.4");
        check("dev/team/frontend/app:1.4", 12, "dev/te…p:1.4");
        check("two critical findings", 12, "two critica…");
        check("日本日本日本", 5, "日本…日本");
        check("name", 1, "…");
    }

    #[test]
    fn a_narrow_terminal_leaves_out_what_yields() {
        let mut table = Table::new(&["~IMAGE", "?DIGEST", ">SIZE", "?BY"], "");
        table.row(["dev/app:1.4".into(), "sha256:4f5312ab34cd".into(), "11.4 MiB".into(), "alice".into()]);
        let check =
            |width: usize, expected: &str| assert_eq!(table.fitted(width).lines().next(), Some(expected));
        check(49, "IMAGE        DIGEST                   SIZE  BY");
        check(48, "IMAGE        DIGEST                   SIZE");
        check(41, "IMAGE            SIZE");
    }

    #[test]
    fn a_table_without_rows_says_so() {
        assert_eq!(Table::new(&["A"], "nothing here").text(), "nothing here\n");
    }

    #[test]
    fn times_are_relative_in_one_unit() {
        let now = 1_000_000_000_000;
        let cases = [
            (now, "just now"),
            (now - 59_000, "59 s ago"),
            (now - 60_000, "1 min ago"),
            (now - 47 * 3_600_000, "47 h ago"),
            (now - 48 * 3_600_000, "2 d ago"),
            (now + 7_200_000, "in 2 h"),
            (now + 90 * 86_400_000 - 1, "in 90 d"),
        ];
        for (then, expected) in cases {
            assert_eq!(ago(then, now), expected);
        }
        assert_eq!(time(1_732_280_400_999), "2024-11-22T13:00:00Z");
    }
}
