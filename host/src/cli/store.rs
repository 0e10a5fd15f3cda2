use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;
use wharf_store::{Compacted, OpenError, Options, compact};

use super::exit::Stop;
use super::output::{Output, bytes};

/// The server's store, on the server's machine
#[derive(Debug, clap::Args)]
pub(super) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Give back the disk space that the store's file has grown by and does not need
    #[command(after_help = "Examples:
  wharf store compact --data /var/lib/wharf")]
    Compact {
        /// Data folder of the server, which must not be running
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

/// Sizes of the store's file, in bytes.
#[derive(Debug, Serialize)]
struct Sizes {
    before: u64,
    after: u64,
}

impl Store {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Verb::Compact { data, output } = self.verb;
        let Compacted { before, after } = shrink(&data)?;
        output.show(&Sizes { before, after }, |sizes| {
            format!("the store's file has {} now, {} before\n", bytes(sizes.after), bytes(sizes.before))
        })
    }
}

/// There is no store in a folder that was named as a server's.
pub(super) fn missing(data: &Path) -> Stop {
    let message =
        format!("there is no store in `{}`; hint: `--data` names the server's folder", data.display());
    Stop::not_found(message)
}

fn shrink(data: &Path) -> anyhow::Result<Compacted> {
    match compact(data, &Options::default()) {
        Err(OpenError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => Err(missing(data).into()),
        done => done.with_context(|| format!("cannot compact the store in `{}`", data.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_store_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let error = shrink(folder.path()).unwrap_err().to_string();
        assert!(error.contains("there is no store in"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_store_is_compacted_once_its_server_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { ballast_bytes: 0, ..Options::default() };
        let store = wharf_store::Store::open(folder.path(), &options).unwrap();
        let error = format!("{:#}", shrink(folder.path()).unwrap_err());
        assert!(error.contains("cannot compact"), "{error}");
        drop(store);
        let Compacted { before, after } = shrink(folder.path()).unwrap();
        assert!(after <= before, "{before} {after}");
    }
}
