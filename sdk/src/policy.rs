//! From one function to a component: the manifest, the exports, and the glue between them and the host.

use crate::bindings::exports::wharf::plugin::policy::Problem;
use crate::config::Config;
use crate::image::Image;
use crate::json::Json;
use crate::outcome::Outcome;

/// The custom section that holds the manifest; the host reads it without running the plugin.
pub const MANIFEST_SECTION: &str = "wharf:manifest";

/// What [`policy!`](crate::policy!) implements; authors write functions, not this.
pub trait Policy {
    type Config: Config;
    /// The manifest as JSON.
    const MANIFEST: &'static str;

    /// What the schema cannot say about a configuration.
    fn validate(config: &Self::Config) -> Vec<Problem>;

    /// # Errors
    /// What the policy says went wrong; the host holds the image and shows it.
    fn evaluate(config: &Self::Config, image: &Image<'_>) -> Result<Outcome, String>;
}

/// The manifest, from what the author wrote.
#[doc(hidden)]
pub const fn manifest(
    name: &str,
    version: &str,
    description: &str,
    schema: &str,
    capabilities: &[&str],
) -> Json {
    assert!(
        is_name(name),
        "a plugin's `name` is a lower-case letter, then such letters, digits and `-`, at most 64 in all"
    );
    let mut out = Json::new()
        .raw(r#"{"name":"#)
        .string(name)
        .raw(r#","version":"#)
        .string(version)
        .raw(r#","kind":"promotion-policy","description":"#)
        .string(description)
        .raw(r#","config_schema":"#)
        .raw(schema)
        .raw(r#","capabilities":["#);
    let mut at = 0;
    while at < capabilities.len() {
        out = out.comma().string(capabilities[at]);
        at += 1;
    }
    out.raw("]}")
}

/// What the host takes for a name.
const fn is_name(name: &str) -> bool {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() {
        if !(name[at].is_ascii_lowercase() || at > 0 && (name[at].is_ascii_digit() || name[at] == b'-')) {
            return false;
        }
        at += 1;
    }
    at > 0 && at <= 64
}

/// The first that was written, else what Cargo says.
#[doc(hidden)]
pub const fn or(written: &[&'static str], default: &'static str) -> &'static str {
    if written.is_empty() { default } else { written[0] }
}

/// All problems of a configuration: that it does not read, or what the policy's own check finds.
///
/// # Errors
/// The problems, each with the JSON pointer of the value.
pub fn validate<P: Policy>(config_json: &str) -> Result<(), Vec<Problem>> {
    let problems = P::validate(&P::Config::read(config_json)?);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Reads the configuration and judges.
///
/// # Errors
/// That the configuration does not read, or what the policy says went wrong.
pub fn evaluate<P: Policy>(config_json: &str, image: &Image<'_>) -> Result<Outcome, String> {
    let config = P::Config::read(config_json).map_err(|problems| unfit(&problems))?;
    P::evaluate(&config, image)
}

/// Problems as one sentence.
pub(crate) fn unfit(problems: &[Problem]) -> String {
    let all: Vec<String> = problems.iter().map(|p| format!("at `{}`: {}", p.pointer, p.message)).collect();
    format!("the configuration does not fit: {}", all.join("; "))
}

/// The exports, for the world of wasm.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest {
    use super::{Policy, Problem};
    use crate::bindings::wharf::plugin::{facts, outcome::Report};
    use crate::image::Image;
    use crate::outcome::Verdict;

    /// A panic becomes a trap; without this nobody would learn why.
    fn tell_panics() {
        std::panic::set_hook(Box::new(|panic| crate::log::error(panic.to_string())));
    }

    pub fn validate<P: Policy>(config_json: &str) -> Result<(), Vec<Problem>> {
        tell_panics();
        super::validate::<P>(config_json)
    }

    pub fn evaluate<P: Policy>(
        config_json: &str,
        subject: &facts::Image,
        into: &Report,
    ) -> Result<Verdict, String> {
        tell_panics();
        let mut outcome = super::evaluate::<P>(config_json, &Image::of(subject))?;
        for name in std::mem::take(&mut outcome.targets) {
            if let Err(why) = into.target(&name) {
                outcome.hold("target", format!("the policy chose the target `{name}`: {why}"));
            }
        }
        if !outcome.reasons.is_empty() {
            into.reasons(&outcome.reasons);
        }
        if let Some(at) = outcome.recheck_at_ms {
            into.recheck_at_ms(at);
        }
        Ok(outcome.verdict)
    }
}

/// Makes a plugin of one function `fn(&Config, &Image) -> impl IntoOutcome`.
///
/// All but `evaluate` may be left out, in this order: `name`, `version`, `description` (else the package's, from `Cargo.toml`),
/// `capabilities` (else none; a policy needs none), `config` (else [`NoConfig`](crate::NoConfig)), and `validate`, a function
/// `fn(&Config) -> Vec<Problem>` for what a schema cannot say.
///
/// Besides the exports it makes a unit test, `wharf_policy::the_manifest_is_sound`.
#[macro_export]
macro_rules! policy {
    (
        $(name: $name:literal,)? $(version: $version:literal,)? $(description: $description:literal,)?
        $(capabilities: [$($capability:literal),* $(,)?],)?
        $(config: $config:ty,)? $(validate: $validate:path,)? evaluate: $evaluate:path $(,)?
    ) => {
        #[doc(hidden)]
        mod wharf_policy {
            #[allow(unused_imports)]
            use super::*;

            /// This plugin, for tests: `testing::judge::<wharf_policy::Plugin>(config, &facts)`.
            #[derive(Debug)]
            #[allow(dead_code)]
            pub(super) struct Plugin;

            const JSON: &$crate::json::Json = &$crate::policy::manifest(
                $crate::policy::or(&[$($name)?], env!("CARGO_PKG_NAME")),
                $crate::policy::or(&[$($version)?], env!("CARGO_PKG_VERSION")),
                $crate::policy::or(&[$($description)?], env!("CARGO_PKG_DESCRIPTION")),
                <<Plugin as $crate::Policy>::Config as $crate::Config>::SCHEMA,
                &[$($($capability),*)?],
            );

            impl $crate::Policy for Plugin {
                type Config = $crate::__config!($($config)?);
                const MANIFEST: &'static str = JSON.as_str();

                #[allow(unused_variables)]
                fn validate(config: &Self::Config) -> ::std::vec::Vec<$crate::Problem> {
                    #[allow(unused_mut)]
                    let mut problems = ::std::vec::Vec::new();
                    $( problems.extend($validate(config)); )?
                    problems
                }

                fn evaluate(
                    config: &Self::Config,
                    image: &$crate::Image<'_>,
                ) -> ::std::result::Result<$crate::Outcome, ::std::string::String> {
                    $crate::IntoOutcome::into_outcome($evaluate(config, image))
                }
            }

            #[cfg(target_family = "wasm")]
            #[allow(unsafe_code)]
            mod section {
                #[used]
                #[unsafe(link_section = "wharf:manifest")]
                static MANIFEST: [u8; super::JSON.len()] = super::JSON.take();
            }

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::wharf::plugin::policy::Guest for Plugin {
                fn validate(config_json: ::std::string::String) -> ::std::result::Result<(), ::std::vec::Vec<$crate::Problem>> {
                    $crate::policy::guest::validate::<Plugin>(&config_json)
                }

                fn evaluate(
                    config_json: ::std::string::String,
                    subject: &$crate::bindings::wharf::plugin::facts::Image,
                    into: &$crate::bindings::wharf::plugin::outcome::Report,
                ) -> ::std::result::Result<$crate::Verdict, ::std::string::String> {
                    $crate::policy::guest::evaluate::<Plugin>(&config_json, subject, into)
                }
            }

            #[cfg(target_family = "wasm")]
            #[allow(unsafe_code)]
            mod export {
                use super::Plugin;
                $crate::bindings::export!(Plugin with_types_in $crate::bindings);
            }

            #[cfg(test)]
            #[test]
            fn the_manifest_is_sound() {
                $crate::testing::check_manifest::<Plugin>();
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __config {
    () => {
        $crate::NoConfig
    };
    ($config:ty) => {
        $config
    };
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_those_that_the_host_takes() {
        for good in ["a", "criteria", "no-criticals-2"] {
            assert!(is_name(good), "`{good}`");
        }
        for bad in ["", "-a", "2a", "A", "a_b", "a.b", &"a".repeat(65)] {
            assert!(!is_name(bad), "`{bad}`");
        }
    }
}
