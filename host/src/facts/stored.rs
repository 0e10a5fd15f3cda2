//! Sealed facts as they are kept: one small document, and its long lists once for all that share them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_plugin::facts::{FactsError, ImageFacts, SealedFacts};
use wharf_store::Store;

use super::document::{self, DocumentError, Kind, Pending};

/// A facts document without the components and findings of its platforms.
#[derive(Debug, Serialize, Deserialize)]
struct Skeleton {
    facts: ImageFacts,
    lists: Vec<Lists>,
}

/// Digests of what was taken out of one platform; absent where there was nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Lists {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    components: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    findings: Option<String>,
}

/// Why stored facts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the facts `{digest}` cannot be put together: {why}")]
    Facts { digest: String, why: FactsError },
    #[error("the facts `{expected}` came back as `{found}`; a document they name was changed")]
    Changed { expected: String, found: String },
}

/// Takes sealed facts in, to be kept under their digest, and returns that. `bom_digests` of platforms are named, so that
/// they stay.
///
/// # Errors
/// [`DocumentError::TooLarge`].
pub fn keep(pending: &mut Pending, sealed: &SealedFacts) -> Result<String, DocumentError> {
    let mut facts = sealed.facts().clone();
    let mut lists = Vec::with_capacity(facts.platforms.len());
    for platform in &mut facts.platforms {
        let components = std::mem::take(&mut platform.components);
        let findings = std::mem::take(&mut platform.findings);
        lists.push(Lists {
            components: keep_list(pending, Kind::Components, &components)?,
            findings: keep_list(pending, Kind::Findings, &findings)?,
        });
        if let Some(bom) = &platform.bom_digest {
            pending.name(Kind::Bom, bom);
        }
    }
    pending.add_as(Kind::Facts, sealed.digest().to_owned(), &json(&Skeleton { facts, lists }))
}

fn keep_list<T: Serialize>(
    pending: &mut Pending,
    kind: Kind,
    list: &[T],
) -> Result<Option<String>, DocumentError> {
    if list.is_empty() {
        return Ok(None);
    }
    pending.add(kind, &json(list)).map(Some)
}

/// JSON of a type that always has one.
fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Puts stored facts together again.
///
/// # Errors
/// [`StoredError`] where a part is missing, or the whole is not what it was.
pub async fn read(store: &Store, digest: &str) -> Result<Arc<SealedFacts>, StoredError> {
    let Skeleton { mut facts, lists } = document::read_json(store, Kind::Facts, digest).await?;
    for (platform, lists) in facts.platforms.iter_mut().zip(&lists) {
        if let Some(digest) = &lists.components {
            platform.components = document::read_json(store, Kind::Components, digest).await?;
        }
        if let Some(digest) = &lists.findings {
            platform.findings = document::read_json(store, Kind::Findings, digest).await?;
        }
    }
    let sealed = facts.seal().map_err(|why| StoredError::Facts { digest: digest.to_owned(), why })?;
    if sealed.digest() != digest {
        let (expected, found) = (digest.to_owned(), sealed.digest().to_owned());
        return Err(StoredError::Changed { expected, found });
    }
    Ok(sealed)
}

/// Documents that a stored facts document names, for collection: those of a kind that is not its own.
///
/// # Errors
/// As [`document::read`].
pub async fn names(store: &Store, digest: &str) -> Result<Vec<(Kind, String)>, DocumentError> {
    let Skeleton { facts, lists } = document::read_json(store, Kind::Facts, digest).await?;
    let boms = facts.platforms.into_iter().filter_map(|platform| Some((Kind::Bom, platform.bom_digest?)));
    let lists = lists.into_iter().flat_map(|lists| {
        let components = lists.components.map(|digest| (Kind::Components, digest));
        components.into_iter().chain(lists.findings.map(|digest| (Kind::Findings, digest)))
    });
    Ok(boms.chain(lists).collect())
}
