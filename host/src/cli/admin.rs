use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::output::{Output, note};
use super::store;

/// Name of the store's file in the data folder (`docs/store.md`).
const STORE: &str = "meta.redb";

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
        #[command(flatten)]
        output: Output,
    },
}

impl Admin {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Verb::Reset { data, output } = self.verb;
        if !data.join(STORE).is_file() {
            // Or a slip in the folder's name would make a new server there.
            return Err(store::missing(&data).into());
        }
        let first = crate::reset_admin(&data)?;
        let (password, file) = (first.password, first.file.display().to_string());
        note(format!("`admin` has a new password, also in `{file}` until it is changed:"));
        let done = json!({"user": "admin", "password": password, "file": file});
        output.show(&done, |_| format!("{password}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_store_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let reset = |data: PathBuf| {
            Admin { verb: Verb::Reset { data, output: Output::default() } }.run().unwrap_err().to_string()
        };
        for data in [folder.path().to_owned(), folder.path().join("none")] {
            let error = reset(data);
            assert!(error.starts_with("there is no store in"), "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
