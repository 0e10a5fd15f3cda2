//! What the interface under `wit/` looks like in Rust; generated, and re-exported where authors need it.
//!
//! Natively the records and enums are real and the imported functions are not there: [`crate::testing`] stands in for them.
#![allow(missing_debug_implementations, missing_docs, unreachable_pub, unsafe_code, clippy::all)]

wit_bindgen::generate!({
    world: "promotion-policy",
    path: "wit",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "::wharf_sdk::bindings",
    additional_derives: [PartialEq],
});
