//! What happened, in commit order.
//!
//! An operator sees `wharf events`. State changes are appended in the commit that makes them and are never lost;
//! observations (a pull, a login) are buffered and flushed each second, and a crash may lose the last second of them.
//!
//! Entry: [`append`].
//!
//! Invariant: an event is immutable; its key orders it by commit.

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};
use wharf_store::{Space, StoreError, Tx};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds since 1970, by the host's clock.
    pub at_ms: u64,
    /// Name of the principal that caused it.
    pub by: String,
    #[serde(flatten)]
    pub kind: Kind,
}

/// What an event says. A variant may gain optional fields; it never loses one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A manifest was pushed, under a tag or by digest alone.
    ImagePushed {
        repository: RepoName,
        digest: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<Tag>,
        /// Promotions that led here, oldest first; empty for a push by a client.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lineage: Vec<Stage>,
        /// Manifest that this one refers to as its `subject`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<Digest>,
    },
    TagDeleted {
        repository: RepoName,
        tag: Tag,
        digest: Digest,
    },
    ManifestDeleted {
        repository: RepoName,
        digest: Digest,
    },
}

/// One stage of a promotion chain: where the image stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub repository: RepoName,
    pub tag: Tag,
}

/// Appends `event` to the transaction that makes the change it tells of.
pub fn append(tx: &mut Tx, event: &Event) -> Result<(), StoreError> {
    tx.append_value(Space::Event, event)
}
