use std::path::PathBuf;

use clap::Subcommand;

use super::output::{note, print};

/// What only the owner of the data folder can do, on the server's machine
#[derive(Debug, clap::Args)]
pub(super) struct Admin {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give `admin` a new random password, and its rights back
    #[command(after_help = "Examples:
  wharf admin reset --data /var/lib/wharf")]
    Reset {
        /// Data folder of the server, which must not be running
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

impl Admin {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Verb::Reset { data } = self.verb;
        let first = crate::reset_admin(&data)?;
        note(format!("`admin` has a new password, also in `{}` until it is changed:", first.file.display()));
        print(&format!("{}\n", first.password))
    }
}
