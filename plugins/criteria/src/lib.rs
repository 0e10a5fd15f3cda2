//! `criteria`: Docker Trusted Registry's promotion rules as data, and what they lacked.
//!
//! ```json
//! {"criteria": [
//!   {"field": "tag", "operator": "sw", "values": ["v", "release-"]},
//!   {"field": "vulnerability_critical", "operator": "lte", "values": ["0"]},
//!   {"field": "component.version", "operator": "noo", "values": ["openssl <3.0.9"]},
//!   {"field": "age", "operator": "gte", "values": ["24h"]}
//! ]}
//! ```
//! All criteria must be met; within one, any of its values does. What is not met gives a reason with the numbers.
//!
//! `config.rs` reads the configuration into the checks of `check.rs`, `judge.rs` carries them out, `field.rs` lists the fields and operators,
//! `value.rs` reads sizes, durations and times.
//!
//! Invariant: an image whose contents are not fully known meets no criterion about them, unless the configuration says so.

mod check;
mod config;
mod field;
mod judge;
#[cfg(test)]
mod tests;
mod value;

wharf_sdk::policy! {
    config: crate::check::Criteria,
    validate: crate::config::check_questions,
    evaluate: crate::judge::judge,
}
