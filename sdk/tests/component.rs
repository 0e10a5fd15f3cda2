//! What an author's build gives: a component of the right world, with its manifest where the host looks for it.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

/// The workspace's root, where its `wit/` is.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds the example of the docs for WebAssembly and gives its bytes.
fn build_example() -> Vec<u8> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--package", "wharf-sdk", "--example", "twenty_lines"])
        .args(["--target", "wasm32-wasip2", "--profile", "plugin", "--target-dir"])
        .arg(&target)
        .current_dir(root())
        .status()
        .unwrap();
    assert!(status.success(), "hint: rustup target add wasm32-wasip2");
    std::fs::read(target.join("wasm32-wasip2/plugin/examples/twenty_lines.wasm")).unwrap()
}

/// The manifests in the file: in the component itself or, as Rust's linker leaves it, in the module inside.
fn manifests(wasm: &[u8]) -> Vec<serde_json::Value> {
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CustomSection(section) = payload.unwrap()
            && section.name() == wharf_sdk::policy::MANIFEST_SECTION
        {
            found.push(serde_json::from_slice(section.data()).unwrap());
        }
    }
    found
}

/// A workspace key is an error wherever the folder stands without the workspace.
#[test]
fn the_crate_inherits_nothing_from_the_workspace() {
    let manifest = std::fs::read_to_string(root().join("sdk/Cargo.toml")).unwrap();
    assert!(!manifest.contains("workspace = true"), "an author who has only `sdk/` cannot build it");
}

#[test]
fn the_example_of_the_docs_becomes_a_component_with_a_manifest() {
    let wasm = build_example();
    assert!(matches!(
        Parser::new(0).parse_all(&wasm).next(),
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. }))
    ));
    let types = Validator::new_with_features(WasmFeatures::all()).validate_all(&wasm).unwrap();
    let name = "wharf:plugin/policy@0.1.0";
    assert!(types.as_ref().component_item_for_export(name).is_some(), "it does not export `{name}`");

    let found = manifests(&wasm);
    assert_eq!(found.len(), 1, "one manifest: {found:?}");
    assert_eq!(found[0]["name"], "few-highs");
    assert_eq!(found[0]["kind"], "promotion-policy");
    assert_eq!(found[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(found[0]["capabilities"], serde_json::json!([]));
    assert_eq!(
        found[0]["config_schema"],
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "description": "Lets images through that have few enough bad findings.",
            "type": "object",
            "properties": { "max_high": {
                "description": "How many findings of severity high or worse an image may have.",
                "type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32, "default": 0
            } },
            "required": [],
            "additionalProperties": false
        })
    );
}

#[test]
fn the_crate_carries_the_interface_of_the_repository() {
    let read = |folder: PathBuf| -> Vec<(String, String)> {
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let theirs = read(root().join("wit/v0.1"));
    assert!(!theirs.is_empty());
    assert!(theirs == read(root().join("sdk/wit")), "hint: cp wit/v0.1/*.wit sdk/wit/");
}

/// The code blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => {
                blocks.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, block)| block))
            }
            (None, Some(info)) => open = Some((info == language, String::new())),
            (Some((_, block)), None) => block.extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

/// Rust of the guide that cannot be compiled where it stands (`rs`) is that of sources that are.
#[test]
fn the_guide_shows_code_that_is_built() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sources =
        ["sdk/examples/twenty_lines.rs", "examples/policy-rust/src/lib.rs"].map(|path| words(&read(path)));
    let blocks = blocks(&read("docs/write-a-plugin.md"), "rs");
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert!(sources.iter().any(|source| source.contains(&words(&block))), "in no source:\n{block}");
    }
}
