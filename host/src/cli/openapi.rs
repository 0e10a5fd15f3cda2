use crate::api::admin;

/// Print the OpenAPI description of the REST API
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Openapi {}

impl Openapi {
    pub(super) fn run(self) -> anyhow::Result<()> {
        super::output::print(&text()?)
    }
}

/// The description as `docs/openapi.json` holds it.
///
/// # Errors
/// Only where serialization itself fails.
pub(super) fn text() -> anyhow::Result<String> {
    Ok(admin::openapi().to_pretty_json()? + "\n")
}
