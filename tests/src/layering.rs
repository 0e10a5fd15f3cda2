//! The host's layers: surfaces call flows, flows join concepts, concepts stand alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wharf_tests::server::root;

/// Folders that hear the outside.
const SURFACES: &[&str] = &["api", "cli", "ui"];
/// Wiring that every layer may name.
const GROUND: &[&str] = &["app", "config"];

/// Rust files below `folder`, with their contents without comments and tests.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let code: Vec<&str> = text
                    .split("#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap_or_default()
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .collect();
                found.push((path, code.join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {}", folder.display());
    found
}

/// Top-level modules of the host named as `crate::MODULE`, also inside `use crate::{…}`.
fn named_modules(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let group = rest.strip_prefix('{').map(|rest| &rest[..closing_brace(rest)]);
        for item in group.map_or_else(|| vec![rest], top_level_items) {
            let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            named.insert(name);
        }
    }
    named
}

fn closing_brace(text: &str) -> usize {
    let mut depth = 1;
    text.char_indices()
        .find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(at)
        })
        .unwrap_or(text.len())
}

fn top_level_items(group: &str) -> Vec<&str> {
    let mut depth = 0;
    group
        .split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        })
        .collect()
}

fn layer_of(path: &Path) -> String {
    let relative = path.strip_prefix(root().join("host/src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn the_host_depends_downwards_only() {
    let host = root().join("host/src");
    let modules: BTreeSet<String> =
        fs::read_dir(&host).unwrap().map(|e| layer_of(&e.unwrap().path())).collect();
    let mut wrong = Vec::new();
    for (path, code) in sources(&host) {
        let layer = layer_of(&path);
        if SURFACES.contains(&layer.as_str())
            || GROUND.contains(&layer.as_str())
            || matches!(&*layer, "lib" | "main" | "serve" | "work")
        {
            continue;
        }
        for named in named_modules(&code).intersection(&modules) {
            let allowed = *named == layer
                || GROUND.contains(&named.as_str())
                // `jobs` is the second caller of `Store::act`: it runs flows.
                || (layer == "jobs" && named == "flow")
                // What a concept leaves is an event, and every act is somebody's.
                || matches!(named.as_str(), "event" | "access")
                || (layer == "flow" && !SURFACES.contains(&named.as_str()));
            if !allowed {
                wrong.push(format!("{} names `crate::{named}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "these reach upwards or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn flows_do_not_call_flows() {
    let flow = root().join("host/src/flow");
    for (path, code) in sources(&flow) {
        let own = path.file_stem().unwrap().to_string_lossy().into_owned();
        for (at, _) in code.match_indices("flow::") {
            let named: String = code[at + "flow::".len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            assert!(named == own || own == "mod", "{} calls the flow `{named}`", path.display());
        }
    }
}

#[test]
fn only_flows_and_jobs_commit() {
    for (path, code) in sources(&root().join("host/src")) {
        let layer = layer_of(&path);
        if !matches!(&*layer, "flow" | "jobs") {
            assert!(!code.contains(".act("), "{} commits; only flow/ and jobs/ do", path.display());
        }
    }
}

#[test]
fn one_crate_names_wasmtime() {
    for folder in ["host/src", "host/oci", "host/store", "host/scan", "tests/src"] {
        for (path, code) in sources(&root().join(folder)) {
            let names = code.contains("wasmtime::") || code.contains("use wasmtime");
            assert!(!names || path.ends_with("layering.rs"), "{} names wasmtime", path.display());
        }
    }
}

/// What follows `#[error(` up to the next one: its message, and the fields of the variant or struct it is for.
fn errors(code: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for described in code.split("#[error(").skip(1) {
        let message = described.split_once(")]").map_or(described, |(message, _)| message);
        found.push((message, &described[message.len()..]));
    }
    found
}

/// An error tells its cause in its own message, as most are shown alone; one that also names it as its source would have it
/// told twice where the causes are shown.
#[test]
fn an_error_tells_its_cause_once() {
    let mut wrong = Vec::new();
    for folder in ["host", "sdk/src", "plugins", "examples"] {
        for (path, code) in sources(&root().join(folder)) {
            for (message, fields) in errors(&code) {
                let first = fields.split_once('\n').map_or(fields, |(_, rest)| rest.trim_start());
                let variant = first.split_once(['\n', '}']).map_or(first, |(variant, _)| variant);
                let is_source = variant.contains("#[from]") || variant.contains("#[source]");
                if message.contains("{source}") || (message.contains("{0}") && is_source) {
                    wrong.push(format!("{}: {message}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these tell their cause and name it as their source:\n{}", wrong.join("\n"));
}
