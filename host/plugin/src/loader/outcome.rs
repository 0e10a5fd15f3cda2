//! What became of each file, as the host stores it, and what of that the loader takes back at the next start.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalog::Failed;

/// How far a file came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It could not be read.
    Read,
    /// It is no plugin for this host.
    Inspect,
    /// It asks for more than it may have.
    Grant,
    /// Another file has a plugin of this name.
    Name,
    /// It does not compile, or does not fit; or the host panicked on it.
    Compile,
    /// It does not start, or refuses a config that is in use.
    SelfTest,
    /// Its bytes could not be kept.
    Archive,
}

impl Stage {
    /// The same bytes and grants would be refused again. Other refusals are tried again with each look: they depend on the
    /// configs in use, on other files, on room on the disk, or on how busy the machine is.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Inspect | Self::Grant | Self::Compile)
    }

    /// Its name in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Inspect => "inspect",
            Self::Grant => "grant",
            Self::Name => "name",
            Self::Compile => "compile",
            Self::SelfTest => "self-test",
            Self::Archive => "archive",
        }
    }
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force.
    Loaded {
        /// The file.
        file: String,
        /// The plugin's name.
        name: String,
        /// The plugin's version.
        version: String,
        /// The digest of its bytes.
        digest: String,
        /// The digest of what it took the place of; none where that is the same plugin.
        replaced: Option<String>,
    },
    /// It is as it was, in force or refused.
    Unchanged {
        /// The file.
        file: String,
    },
    /// The plugin has no file any more; its bindings hold.
    Removed {
        /// The plugin's name.
        name: String,
        /// The digest of what was in force.
        digest: String,
    },
    /// It was refused.
    Quarantined {
        /// What it is and why.
        failed: Failed,
        /// The digest of what stays in force in its place.
        kept: Option<String>,
    },
    /// It is not refused any more: it is good now, or gone. Whatever is refused under its name from now on is news.
    RefusalEnded {
        /// The file.
        file: String,
    },
}

/// A plugin that was in force when the host stopped: what the host stored from [`Outcome::Loaded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// The file that it came from.
    pub file: String,
    /// The plugin's name.
    pub name: String,
    /// The digest of its bytes.
    pub digest: String,
}

/// How the folder was when the host stopped.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// What was in force.
    pub active: Vec<Active>,
    /// The files that were refused: an [`Outcome::Quarantined`], and no [`Outcome::RefusalEnded`] since.
    pub refused: BTreeSet<String>,
}
