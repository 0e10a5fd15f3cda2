//! Real clients. One that is missing fails the test and says how to install it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs an installed client to its end and returns its standard output.
///
/// # Errors
/// Where the client is not installed, with the way to install it, or ends with a failure.
pub fn tool(name: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(name).args(arguments).output().with_context(|| {
        format!("cannot run `{name}`; hint: `bash tests/install.sh` installs the tests' clients")
    })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{name} {}` ended with {}: {stderr}",
        arguments.join(" "),
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An HTTP client for direct calls.
pub fn http() -> reqwest::Client {
    // Tests run in threads of one process: the first call installs the provider, later ones find it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
