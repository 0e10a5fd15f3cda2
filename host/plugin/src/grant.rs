//! What a plugin may have: what it asks for, as far as the operator allows it.
//!
//! What an operator sees: a file `<stem>.toml` beside `<stem>.wasm` with `capabilities = […]` and limits. Without one, a plugin
//! has what its kind needs to do its work and nothing else.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::bounds;
use crate::inspect::Inspected;
use crate::interface::{self, Kind};
use crate::sandbox::CallLimits;

/// The largest grants file, in bytes.
pub const MAX_GRANTS_BYTES: usize = 64 << 10;

/// What the operator allows one plugin: the parsed `<stem>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// The capabilities that it may have; none: those that its kind has by default.
    #[serde(default)]
    pub capabilities: Option<BTreeSet<String>>,
    /// Limits of its calls that differ from those of the host's configuration.
    #[serde(default)]
    pub limits: LimitOverrides,
}

/// Limits that differ from the host's; a limit may be lowered or raised within its [`bounds`], memory up to what the engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "see CallLimits")]
pub struct LimitOverrides {
    pub time_ms: Option<u64>,
    pub memory_bytes: Option<usize>,
    pub host_calls: Option<u32>,
    pub output_bytes: Option<usize>,
    pub log_bytes: Option<usize>,
    pub trace_bytes: Option<usize>,
}

impl LimitOverrides {
    /// What is out of bounds, all of it.
    fn problems(&self) -> Vec<String> {
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let limits = [
            ("time_ms", self.time_ms, bounds::TIME_MS),
            ("memory_bytes", self.memory_bytes.map(wide), bounds::MEMORY_BYTES),
            ("host_calls", self.host_calls.map(u64::from), bounds::HOST_CALLS),
            ("output_bytes", self.output_bytes.map(wide), bounds::OUTPUT_BYTES),
            ("log_bytes", self.log_bytes.map(wide), bounds::LOG_BYTES),
            ("trace_bytes", self.trace_bytes.map(wide), bounds::TRACE_BYTES),
        ];
        let out = limits.into_iter().filter_map(|(name, value, bounds)| {
            let value = value.filter(|value| !bounds.contains(value))?;
            Some(format!("`limits.{name}`: it is {value}, not within {} to {}", bounds.start(), bounds.end()))
        });
        out.collect()
    }

    /// `base` with these in place of its own.
    pub fn over(&self, base: &CallLimits) -> CallLimits {
        CallLimits {
            time_ms: self.time_ms.unwrap_or(base.time_ms),
            memory_bytes: self.memory_bytes.unwrap_or(base.memory_bytes),
            host_calls: self.host_calls.unwrap_or(base.host_calls),
            output_bytes: self.output_bytes.unwrap_or(base.output_bytes),
            log_bytes: self.log_bytes.unwrap_or(base.log_bytes),
            trace_bytes: self.trace_bytes.unwrap_or(base.trace_bytes),
        }
    }
}

/// What a plugin was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Its capabilities.
    pub capabilities: BTreeSet<String>,
    /// Limits that the operator set for it.
    pub limits: LimitOverrides,
}

/// Why a plugin is not given what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The grants file is not what it should be.
    #[error("the `.toml` beside the plugin: {message}")]
    BadFile {
        /// What is wrong, with line and column or the name of the limit.
        message: String,
    },
    /// There is no such capability.
    #[error("capability `{capability}` does not exist for a `{kind}`; supported: {}", names(.supported))]
    Unknown {
        /// What was asked for, or allowed.
        capability: String,
        /// The plugin's kind.
        kind: Kind,
        /// What there is.
        supported: &'static [&'static str],
    },
    /// The operator does not allow it.
    #[error(
        "the plugin asks for `{capability}`, which is not granted; hint: add it to `capabilities` in the `.toml` beside the plugin"
    )]
    NotAllowed {
        /// What was asked for.
        capability: String,
    },
}

fn names(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The capabilities of a kind: here those that it has by default as well.
fn capabilities(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::PromotionPolicy => &["image-facts", "log"],
    }
}

impl Grants {
    /// Reads `<stem>.toml`.
    ///
    /// # Errors
    /// [`GrantError::BadFile`].
    pub fn parse(bytes: &[u8]) -> Result<Self, GrantError> {
        let bad = |message: String| GrantError::BadFile { message };
        if bytes.len() > MAX_GRANTS_BYTES {
            return Err(bad(format!("{} bytes, at most {MAX_GRANTS_BYTES} wanted", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| bad(format!("no UTF-8: {e}")))?;
        let grants: Grants = toml::from_str(text).map_err(|e| bad(e.to_string().trim_end().to_owned()))?;
        let problems = grants.limits.problems();
        if problems.is_empty() { Ok(grants) } else { Err(bad(problems.join("; "))) }
    }
}

/// Asked ∩ allowed, where a plugin that is not given all that it asks for is refused: it would fail later, and less clearly.
///
/// # Errors
/// [`GrantError::Unknown`] and [`GrantError::NotAllowed`].
pub fn grant(inspected: &Inspected, allowed: &Grants) -> Result<Granted, GrantError> {
    let kind = inspected.kind;
    let supported = capabilities(kind);
    let known = |capability: &str| match supported.contains(&capability) {
        true => Ok(()),
        false => Err(GrantError::Unknown { capability: capability.to_owned(), kind, supported }),
    };
    let by_default = supported.iter().map(|name| (*name).to_owned()).collect();
    let allows = allowed.capabilities.as_ref().unwrap_or(&by_default);
    allows.iter().try_for_each(|capability| known(capability))?;
    let implied = inspected.imports.iter().filter_map(|import| interface::capability_of(import));
    let asked: BTreeSet<String> =
        inspected.manifest.capabilities.iter().cloned().chain(implied.map(str::to_owned)).collect();
    for capability in &asked {
        known(capability)?;
        if !allows.contains(capability) {
            return Err(GrantError::NotAllowed { capability: capability.clone() });
        }
    }
    Ok(Granted { capabilities: asked, limits: allowed.limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `time_ms = 0` was taken, and so was a year.
    #[test]
    fn limits_beside_a_plugin_have_the_bounds_of_the_configuration() {
        let check =
            |limit: &str, value: u64| Grants::parse(format!("[limits]\n{limit} = {value}").as_bytes());
        for (limit, bounds) in [
            ("time_ms", bounds::TIME_MS),
            ("memory_bytes", bounds::MEMORY_BYTES),
            ("host_calls", bounds::HOST_CALLS),
            ("output_bytes", bounds::OUTPUT_BYTES),
            ("log_bytes", bounds::LOG_BYTES),
            ("trace_bytes", bounds::TRACE_BYTES),
        ] {
            let (least, most) = (*bounds.start(), *bounds.end());
            assert!(check(limit, least).is_ok() && check(limit, most).is_ok(), "{limit}");
            for out in [least.checked_sub(1), Some(most + 1)].into_iter().flatten() {
                let why = check(limit, out).unwrap_err().to_string();
                let told = format!("`limits.{limit}`: it is {out}, not within {least} to {most}");
                assert!(why.contains(&told), "{why}");
            }
        }
        let why = Grants::parse(b"[limits]\ntime_ms = 99999999999\nhost_calls = 0").unwrap_err().to_string();
        assert!(why.contains("limits.time_ms") && why.contains("limits.host_calls"), "{why}");
    }
}
