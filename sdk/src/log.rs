//! Lines for the operator, under the plugin's name; bounded by the host. They are no part of a decision.

pub use crate::bindings::wharf::plugin::log::Level;
#[cfg(target_family = "wasm")]
use crate::bindings::wharf::plugin::log::write;

/// In a native test the lines go to the test's output.
#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}
