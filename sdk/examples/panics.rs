//! A policy that fails in every way that an author can think of: what its tests call `how`. For Wharf's own tests.
#![allow(clippy::panic)]

use wharf_sdk::prelude::*;

wharf_sdk::config! {
    /// How to fail.
    pub struct Config {
        /// `panic`, `error`, `target`, `log` or nothing.
        how: String,
    }
}

fn judge(config: &Config, image: &Image) -> Judgement {
    match config.how.as_str() {
        "panic" => panic!("no idea what `{}` is", image.repository()),
        "error" => Err(Stop::Failed("the moon is in the wrong phase".to_owned())),
        "target" => Ok(approve().target("nowhere")),
        "log" => {
            wharf_sdk::log::debug("looked");
            wharf_sdk::log::warn("frowned");
            Ok(approve().target("qa"))
        }
        _ => Ok(abstain("no-opinion", "this is not about me")),
    }
}

fn validate(config: &Config) -> Vec<Problem> {
    if config.how.is_empty() { vec![problem("/how", "say how")] } else { Vec::new() }
}

wharf_sdk::policy! {
    name: "panics",
    version: "1.2.3-rc.1",
    description: "Fails",
    config: Config,
    validate: validate,
    evaluate: judge,
}
