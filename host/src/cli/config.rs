use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output::{note, print};
use crate::config;

/// The server's settings file
#[derive(Debug, clap::Args)]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a settings file without a server: every problem at once
    #[command(after_help = "Examples:
  wharf config check /etc/wharf.toml")]
    Check {
        /// The file
        file: PathBuf,
    },
    /// Print the reference page of the settings
    #[command(hide = true)]
    Reference {},
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Check { file } => check(&file),
            Verb::Reference {} => print(&config::reference()),
        }
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    // Where the data will be is not in the file, and does not change whether it holds.
    config::load(file, Path::new("data"))?;
    note(format!("`{}` holds", file.display()));
    Ok(())
}
