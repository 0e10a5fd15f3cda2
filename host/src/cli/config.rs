use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::output::{Output, print};
use crate::config::{self, ConfigError, Problem};

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
        #[command(flatten)]
        output: Output,
    },
    /// Print the reference page of the settings
    #[command(hide = true)]
    Reference {},
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Check { file, output } => check(&file, output),
            Verb::Reference {} => print(&config::reference()),
        }
    }
}

fn check(file: &Path, output: Output) -> anyhow::Result<()> {
    let shown = file.display().to_string();
    let found = |problems: &[Problem]| json!({"file": shown, "problems": problems});
    // Where the data will be is not in the file, and does not change whether it holds.
    match config::load(file, Path::new("data")) {
        Ok(_) => output.done(&found(&[]), format!("`{shown}` holds")),
        Err(error) => {
            if let ConfigError::Wrong { problems, .. } = &error {
                // People read them in the error.
                output.show(&found(problems), |_| String::new())?;
            }
            Err(error.into())
        }
    }
}
