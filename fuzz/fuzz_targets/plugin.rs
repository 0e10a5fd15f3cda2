//! A dropped file: what it is, its manifest with the schema in it, and the operator's file beside it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wharf_plugin::facts::SealedFacts;
use wharf_plugin::{Grants, MANIFEST_SECTION, grant, inspect};

/// The smallest component of the right kind, up to its manifest.
static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    wat::parse_str(r#"(component (instance $i) (export "wharf:plugin/policy@0.1.0" (instance $i)))"#)
        .expect("it is well written")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(inspected) = inspect(bytes) {
        let _ = Grants::parse(bytes).map(|allowed| grant(&inspected, &allowed));
    }
    let _ = inspect(&with_manifest(bytes));
    let _ = Grants::parse(bytes);
    let _ = SealedFacts::from_bytes(bytes);
});

/// A component with these bytes as its manifest.
fn with_manifest(bytes: &[u8]) -> Vec<u8> {
    let mut wasm = COMPONENT.clone();
    wasm.push(0);
    leb128(&mut wasm, 1 + MANIFEST_SECTION.len() + bytes.len());
    leb128(&mut wasm, MANIFEST_SECTION.len());
    wasm.extend_from_slice(MANIFEST_SECTION.as_bytes());
    wasm.extend_from_slice(bytes);
    wasm
}

fn leb128(out: &mut Vec<u8>, mut n: usize) {
    while n > 127 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}
