use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};
use wharf_store::{Key, Space, Store, StoreError, Tx, key};

use super::audit::{self, Refusal};

/// Observations that wait to be written; more within one flush are counted and dropped.
pub const OBSERVATIONS_MAX: usize = 4096;
/// Rows of each kind that one batch writes, well below what one commit takes.
const BATCH_ROWS: usize = 400;

/// Something that was seen and changes nothing: worth a row, not worth a durable write while a client waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    Pulled { repository: RepoName, digest: Digest, tag: Option<Tag>, by: String, at_ms: u64 },
    LoggedIn { by: String, at_ms: u64 },
    Refused(Refusal),
}

/// What is kept of pulls: the newest, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPull {
    pub at_ms: u64,
    pub by: String,
    pub pulls: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

impl LastPull {
    fn merge(&mut self, newer: LastPull) {
        let pulls = self.pulls.saturating_add(newer.pulls);
        if newer.at_ms >= self.at_ms {
            *self = newer;
        }
        self.pulls = pulls;
    }
}

/// The buffer. `note` never waits and never fails: a full buffer counts what it drops.
#[derive(Debug, Default)]
pub struct Observations {
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    seen: BTreeMap<Key, LastPull>,
    refused: Vec<Refusal>,
    dropped: u64,
}

impl Pending {
    fn room(&self) -> usize {
        OBSERVATIONS_MAX.saturating_sub(self.seen.len() + self.refused.len())
    }
}

/// What one commit of a flush writes.
#[derive(Debug, Default)]
pub struct Batch {
    seen: Vec<(Key, LastPull)>,
    refused: Vec<Refusal>,
    dropped: u64,
}

fn pull_key(repository: &RepoName, digest: &Digest) -> Key {
    key(Space::Access, &["pull", repository.as_str(), digest.as_str()])
}

impl Observations {
    /// Remembers an observation until the next flush.
    pub fn note(&self, observation: Observation) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.room() == 0 {
            pending.dropped += 1;
            return;
        }
        match observation {
            Observation::Pulled { repository, digest, tag, by, at_ms } => {
                let seen = LastPull { at_ms, by, pulls: 1, tag };
                pending.seen.entry(pull_key(&repository, &digest)).or_default().merge(seen);
            }
            Observation::LoggedIn { by, at_ms } => {
                let login = key(Space::Access, &["login", &by]);
                pending.seen.entry(login).or_default().merge(LastPull { at_ms, by, pulls: 1, tag: None });
            }
            Observation::Refused(refusal) => pending.refused.push(refusal),
        }
    }

    /// Takes all that waits, in batches of what one commit can hold; what comes from now on waits for the next flush.
    pub fn take(&self) -> Vec<Batch> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut seen, mut refused, mut dropped) =
            (pending.seen.into_iter(), pending.refused.into_iter(), pending.dropped);
        let mut batches = Vec::new();
        while seen.len() > 0 || refused.len() > 0 || dropped > 0 {
            batches.push(Batch {
                seen: seen.by_ref().take(BATCH_ROWS).collect(),
                refused: refused.by_ref().take(BATCH_ROWS).collect(),
                dropped: std::mem::take(&mut dropped),
            });
        }
        batches
    }

    /// Takes back what was not written, as far as there is room.
    pub fn put_back(&self, batches: Vec<Batch>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for Batch { seen, refused, .. } in batches {
            for (key, older) in seen {
                match pending.room() {
                    0 if !pending.seen.contains_key(&key) => pending.dropped += 1,
                    _ => pending.seen.entry(key).or_default().merge(older),
                }
            }
            let room = pending.room().min(refused.len());
            pending.dropped += (refused.len() - room) as u64;
            pending.refused.extend(refused.into_iter().take(room));
        }
    }
}

impl Batch {
    /// Observations that found the buffer full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds the batch to a transaction, merged with what is stored.
    pub async fn write(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let keys: Vec<Key> = self.seen.iter().map(|(key, _)| key.clone()).collect();
        let rows = tx.get_many(&keys).await?;
        for ((key, newer), row) in self.seen.iter().zip(rows) {
            let mut seen: LastPull = row.map_or_else(|| Ok(LastPull::default()), |row| row.value())?;
            seen.merge(newer.clone());
            tx.put_value(key, &seen)?;
        }
        for refusal in &self.refused {
            audit::append(tx, refusal)?;
        }
        Ok(())
    }
}

/// When an image was last pulled from a repository, and how often; behind by up to a second.
pub async fn last_pull(
    store: &Store,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Option<LastPull>, StoreError> {
    store.get(&pull_key(repository, digest)).await?.map(|row| row.value()).transpose()
}
