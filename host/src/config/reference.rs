//! `docs/config.md`, made from the settings' definitions.

use std::fmt::Write as _;

use super::sections;

const HEAD: &str = "\
# Settings

`wharf serve --config FILE` reads one TOML file. Every setting has a default; without a file, all have theirs. A setting
that does not exist, has a wrong type or is out of bounds refuses the file, and every such problem is told at once with its
line: `wharf config check FILE` does so without a server. Paths are relative to the file.

This page is made from the definitions (`wharf config reference`); a test compares it.
";

/// The page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for section in sections::known() {
        let title = if section.table.is_empty() {
            "Before all tables".to_owned()
        } else {
            format!("`[{}]`", section.table)
        };
        // Writing to a string does not fail.
        let _ = write!(page, "\n## {title}\n{}\n\n", joined(&section.about));
        page.push_str("| setting | type | default | |\n|---|---|---|---|\n");
        for setting in &section.settings {
            let default = match setting.default.as_str() {
                "not set" => "not set".to_owned(),
                value => format!("`{value}`"),
            };
            let about = joined(&setting.about).replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {} | {default} | {about} |", setting.name, setting.kind);
        }
    }
    page
}

/// Doc comments as one line.
fn joined(about: &str) -> String {
    about.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
