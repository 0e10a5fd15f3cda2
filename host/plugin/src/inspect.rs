//! What a file is, found out from its bytes alone, before anything is compiled or run.
//!
//! What an operator sees: in `wharf plugin ls` the reason why a file was refused. The entry is [`inspect`].
//!
//! Invariant: the size is checked before anything is read, and the whole file is validated before anything in it is believed.
//! Invariant: any bytes give an answer; none make it panic or take more than linear time.

use semver::Version;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use crate::facts::sha256;
use crate::interface::{self, Kind};

mod manifest;

pub(crate) use manifest::schema_validator;
pub use manifest::{MAX_MANIFEST_BYTES, Manifest};

/// The largest plugin, in bytes: room for a Python component, which carries its interpreter.
pub const MAX_PLUGIN_BYTES: usize = 32 << 20;

/// The custom section that holds the manifest, as JSON.
pub const MANIFEST_SECTION: &str = "wharf:manifest";

/// What a file turned out to be.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// What it is for.
    pub kind: Kind,
    /// The version of the interface that it was made for.
    pub interface: Version,
    /// What it says of itself.
    pub manifest: Manifest,
    /// `sha256:` and the hex digest of the file.
    pub digest: String,
    /// Every interface that it imports, as it names them.
    pub imports: Vec<String>,
}

/// Why a file is no plugin that this host can load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Larger than [`MAX_PLUGIN_BYTES`].
    #[error("the file is larger than a plugin may be, which is {MAX_PLUGIN_BYTES} bytes")]
    TooLarge,
    /// It does not start as WebAssembly does.
    #[error(
        "the file is no WebAssembly; hint: drop the component that a build for `wasm32-wasip2` makes, no source, text form or \
         native library"
    )]
    NotWasm,
    /// A core module, which has no interface types.
    #[error(
        "the file is a core module, not a component; hint: build for `wasm32-wasip2`, or run `wasm-tools component new`"
    )]
    CoreModule,
    /// It ends too early.
    #[error("the file ends too early, at byte {at}; hint: it may still be being copied")]
    Truncated {
        /// Where the missing bytes belong.
        at: usize,
    },
    /// It is not valid.
    #[error("the file is not a valid component: {message} (at byte {at})")]
    Invalid {
        /// What is wrong.
        message: String,
        /// Where.
        at: usize,
    },
    /// It exports no interface of a kind that this host has.
    #[error(
        "the component exports {}, which is no kind of plugin; supported: {}; hint: `wharf_sdk::policy!` exports it",
        list(.found),
        interface::supported()
    )]
    WrongKind {
        /// What it exports.
        found: Vec<String>,
    },
    /// It was made for a version of an interface that this host does not have.
    #[error("the component needs `{interface}` {found}; supported: {supported}")]
    WrongVersion {
        /// The interface.
        interface: String,
        /// The version that it names.
        found: String,
        /// What there is.
        supported: &'static str,
    },
    /// It wants something that its kind is not given.
    #[error("the component imports `{name}`; hint: {hint}")]
    UnknownImport {
        /// What it imports.
        name: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It has no manifest.
    #[error(
        "the component has no manifest (custom section `{MANIFEST_SECTION}`); hint: export it with the `wharf-sdk` crate"
    )]
    NoManifest,
    /// Its manifest cannot be used.
    #[error("the plugin's manifest: {message}")]
    BadManifest {
        /// What is wrong.
        message: String,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [first @ .., last] if first.len() < 4 => {
            first.iter().map(|name| format!("`{name}`, ")).chain([format!("`{last}`")]).collect()
        }
        [first, ..] => format!("`{first}` and {} more", names.len() - 1),
    }
}

/// The WebAssembly proposals that a plugin may use: those of the engine, so that what passes here also compiles.
pub(crate) fn features() -> WasmFeatures {
    // Without references into a garbage-collected heap, which the engine is built without.
    WasmFeatures::WASM2.difference(WasmFeatures::GC_TYPES)
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::COMPONENT_MODEL
}

/// Finds out what `bytes` are.
///
/// # Errors
/// Every [`InspectError`]; the first that applies, in the order in which they are listed.
pub fn inspect(bytes: &[u8]) -> Result<Inspected, InspectError> {
    if bytes.len() > MAX_PLUGIN_BYTES {
        return Err(InspectError::TooLarge);
    }
    check_header(bytes)?;
    Validator::new_with_features(features()).validate_all(bytes).map_err(|e| invalid(&e, bytes.len()))?;
    let surface = Surface::read(bytes)?;
    let (kind, interface) = surface.kind()?;
    for import in &surface.imports {
        interface::check_import(kind, import)?;
    }
    let manifest = Manifest::read(&surface.manifests, kind)?;
    let imports = surface.imports.into_iter().map(|import| import.name).collect();
    Ok(Inspected { kind, interface, manifest, digest: sha256(bytes), imports })
}

fn check_header(bytes: &[u8]) -> Result<(), InspectError> {
    const MAGIC: &[u8] = b"\0asm";
    if !bytes.starts_with(&MAGIC[..bytes.len().min(4)]) {
        return Err(InspectError::NotWasm);
    }
    match bytes.get(6..8) {
        None => Err(InspectError::Truncated { at: bytes.len() }),
        Some([0, 0]) => Err(InspectError::CoreModule),
        Some(_) => Ok(()),
    }
}

fn invalid(error: &wasmparser::BinaryReaderError, len: usize) -> InspectError {
    let at = error.offset();
    if at >= len || error.message().starts_with("unexpected end") {
        return InspectError::Truncated { at };
    }
    InspectError::Invalid { message: error.message().to_owned(), at }
}

/// Something that the outermost component imports.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) name: String,
    /// An instance of an interface, rather than a lone function, module or type.
    pub(crate) instance: bool,
}

/// What the outermost component shows, and the manifest sections of it and of what it contains.
#[derive(Debug, Default)]
struct Surface<'a> {
    imports: Vec<Import>,
    exports: Vec<String>,
    manifests: Vec<&'a [u8]>,
}

impl<'a> Surface<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, InspectError> {
        let mut surface = Self::default();
        let mut depth = 0u32;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|e| invalid(&e, bytes.len()))?;
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let import = import.map_err(|e| invalid(&e, bytes.len()))?;
                        let instance = matches!(import.ty, wasmparser::ComponentTypeRef::Instance(_));
                        surface.imports.push(Import { name: import.name.name.to_owned(), instance });
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(|e| invalid(&e, bytes.len()))?;
                        surface.exports.push(export.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                    surface.manifests.push(section.data());
                }
                _ => {}
            }
        }
        Ok(surface)
    }

    fn kind(&self) -> Result<(Kind, Version), InspectError> {
        for export in &self.exports {
            if let Some(found) = interface::exported_kind(export)? {
                return Ok(found);
            }
        }
        Err(InspectError::WrongKind { found: self.exports.clone() })
    }
}
