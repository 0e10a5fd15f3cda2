//! Which interfaces there are: the kinds that a plugin can be, and what each kind may import.

use semver::Version;

use crate::inspect::{Import, InspectError};

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Decides whether an image moves on to the next repository.
    PromotionPolicy,
}

impl Kind {
    /// Every kind that this host can load.
    pub const ALL: &[Self] = &[Self::PromotionPolicy];

    /// Its name, which is that of its world.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PromotionPolicy => "promotion-policy",
        }
    }

    /// The interface that a plugin of this kind exports.
    fn export(self) -> &'static str {
        match self {
            Self::PromotionPolicy => "policy",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

const PACKAGE: &str = "wharf:plugin";

/// The versions of `wharf:plugin` that this host has, for people.
pub const SUPPORTED_VERSIONS: &str = "0.1";

/// The versions of WASI of which the harmless part is there, for people.
const SUPPORTED_WASI: &str = "0.2";

/// What may be imported from `wharf:plugin`, and the capability that this takes.
const IMPORTS: &[(&str, &str)] = &[("facts", "image-facts"), ("outcome", "image-facts"), ("log", "log")];

/// What may be imported from WASI: what language runtimes import whether they use it or not. All of it is there and empty:
/// no file, argument, variable or input, a clock that stands still, random numbers that are not.
const WASI: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The kinds with what each exports, for people.
pub(crate) fn supported() -> String {
    let one = |kind: &Kind| format!("`{kind}` (exports `{PACKAGE}/{}` {SUPPORTED_VERSIONS})", kind.export());
    Kind::ALL.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Takes `wharf:plugin/policy@0.1.0` apart.
fn split(name: &str) -> Option<(&str, &str, Version)> {
    let (path, version) = name.split_once('@')?;
    let (package, interface) = path.split_once('/')?;
    Some((package, interface, Version::parse(version).ok()?))
}

/// Releases of 0.1; a pre-release never matches anything.
fn is_supported(version: &Version) -> bool {
    version.major == 0 && version.minor == 1 && version.pre.is_empty()
}

fn wrong_version(interface: &str, found: &Version, supported: &'static str) -> InspectError {
    InspectError::WrongVersion { interface: interface.to_owned(), found: found.to_string(), supported }
}

/// The kind whose interface this is; none where it is no interface of ours.
pub(crate) fn exported_kind(export: &str) -> Result<Option<(Kind, Version)>, InspectError> {
    let Some((PACKAGE, interface, version)) = split(export) else { return Ok(None) };
    let Some(kind) = Kind::ALL.iter().find(|kind| kind.export() == interface) else { return Ok(None) };
    if !is_supported(&version) {
        return Err(wrong_version(&format!("{PACKAGE}/{interface}"), &version, SUPPORTED_VERSIONS));
    }
    Ok(Some((*kind, version)))
}

/// Whether a plugin of this kind may import that.
pub(crate) fn check_import(kind: Kind, import: &Import) -> Result<(), InspectError> {
    let Kind::PromotionPolicy = kind;
    let refuse = |hint| Err(InspectError::UnknownImport { name: import.name.clone(), hint });
    let Some((package, interface, version)) = split(&import.name).filter(|_| import.instance) else {
        return refuse("a plugin imports interfaces by name and version, such as `wharf:plugin/facts@0.1.0`");
    };
    let path = format!("{package}/{interface}");
    if package == PACKAGE {
        return match IMPORTS.iter().any(|(name, _)| *name == interface) {
            false => refuse("this host has no such interface; a newer one may"),
            true if is_supported(&version) => Ok(()),
            true => Err(wrong_version(&path, &version, SUPPORTED_VERSIONS)),
        };
    }
    if WASI.contains(&path.as_str()) {
        return match (version.major, version.minor, version.pre.is_empty()) {
            (0, 2, true) => Ok(()),
            _ => Err(wrong_version(&path, &version, SUPPORTED_WASI)),
        };
    }
    match package {
        "wasi:sockets" | "wasi:http" | "wasi:tls" => {
            refuse("a promotion policy has no network: it judges on the facts it is given")
        }
        _ => refuse("a promotion policy is given `wharf:plugin` facts, outcome and log, and nothing else"),
    }
}

/// The capability that an import takes; none where it takes none.
pub(crate) fn capability_of(import: &str) -> Option<&'static str> {
    let (PACKAGE, interface, _) = split(import)? else { return None };
    IMPORTS.iter().find(|(name, _)| *name == interface).map(|(_, capability)| *capability)
}

/// The `wasi:…/…` path of an import without its version; none where it is no WASI.
pub(crate) fn wasi_path(import: &str) -> Option<&str> {
    import.split_once('@').map(|(path, _)| path).filter(|path| path.starts_with("wasi:"))
}
