//! An image moves on, or is held, and somebody can see why.
//!
//! A tag is judged when it is pushed, when an answer that a judgement was given changes, and on demand. [`judge::tag`] reads
//! top to bottom: what stands at the tag (`gather`) → each binding's policies about each platform (`ask`) → one verdict
//! ([`crate::promote::compose`]) → where it goes (`aim`) → one commit of decision, promotion, tag and events (`settle`,
//! `record`). [`by_hand`] is the same commit without the asking, [`follow`] what
//! comes after it. [`dry_run`] asks without the commit, [`replay`] asks again over what was kept.
//!
//! Invariant: a promotion is one commit: promotion key, source tag and binding as they were judged, target tag, links,
//! quota, decision, events. Evidence that is more than one commit takes is there before, and expected to be.
//! Invariant: what fails on the way, and what a target refuses, is a hold that says so.

mod again;
mod aim;
mod ask;
pub mod bind;
pub mod by_hand;
pub mod dry_run;
pub mod explain;
pub mod follow;
mod gather;
pub mod judge;
pub mod mass;
mod past;
mod record;
pub mod replay;
mod settle;
#[cfg(test)]
mod tests;

use wharf_oci::{Digest, RepoName, Tag};
use wharf_store::StoreError;

use crate::event::Stage;
use crate::facts::DocumentError;
use crate::facts::stored::StoredError;
use crate::registry::RegistryError;

/// Why a judgement or a promotion did not come about. What a policy or a target says is a decision, not an error.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    #[error("there is no tag `{0}`; hint: `wharf image ls` shows those there are")]
    NoTag(Stage),
    #[error("there is no plugin `{0}` in force; hint: `wharf plugin ls` shows those there are")]
    NoPlugin(String),
    #[error(
        "there is no decision {number} about `{stage}`; hint: `wharf policy explain {stage} --history` shows those there are"
    )]
    NoDecision { stage: Stage, number: u64 },
    #[error("`{who}` may not {action} `{repository}`")]
    Refused { who: String, action: &'static str, repository: RepoName },
    #[error("the note has {0} bytes, more than {max}", max = by_hand::NOTE_BYTES_MAX)]
    Note(usize),
    #[error("`{0}` was not promoted: {1}")]
    Held(Stage, String),
    #[error("`{digest}` did not follow the image that it is about: {why}")]
    NotFollowed { digest: Digest, why: String },
    #[error("it changed meanwhile; hint: try again")]
    Stale,
    #[error("the judgement was interrupted")]
    Interrupted,
    #[error("the image cannot be judged: {0}")]
    Facts(String),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Stored(#[from] StoredError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn stage(repository: &RepoName, tag: &Tag) -> Stage {
    Stage { repository: repository.clone(), tag: tag.clone() }
}
