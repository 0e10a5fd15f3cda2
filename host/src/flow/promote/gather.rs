//! What stands at a tag, as one facts document.

use std::sync::Arc;

use wharf_oci::{Digest, Manifest, ManifestKind, RepoName, Tag, Target, unambiguous_config};
use wharf_plugin::facts::{Approval, FactsError, ImageFacts, SealedFacts};
use wharf_store::{Rev, Stored};

use super::{PromoteError, past, stage};
use crate::App;
use crate::event::Stage;
use crate::facts::document::{self, DocumentError, Kind, Pending};
use crate::facts::{ImageConfig, PlatformInput, Scanned, TagInput, assemble, scanned, stored};
use crate::promote::{Authority, Reason, reasons};
use crate::registry::row::{self, TagRow};
use crate::registry::{blob, index, manifest};

/// Platforms of one index that are judged.
pub(super) const PLATFORMS_MAX: usize = 128;
/// Largest configuration document that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// What is kept of why one is not read, in bytes.
const WHY_BYTES_MAX: usize = 512;

/// A tag with all that is known of what it points at.
#[derive(Debug, Clone)]
pub(super) struct Gathered {
    pub(super) stage: Stage,
    pub(super) row: TagRow,
    pub(super) revision: Rev,
    /// When it was looked at, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// What policies are told, or why none is asked: it is more than can be judged.
    pub(super) facts: Result<Arc<SealedFacts>, Reason>,
    pub(super) scans: Vec<Scan>,
}

/// What a platform was when it was read, besides what policies are told.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) digest: Digest,
    /// Whether the repository had its manifest. One that comes is judged by its scan, which another repository may have long since.
    pub(super) is_here: bool,
    /// The revision of its manifest's row, read before all else.
    pub(super) row: Option<Rev>,
    /// Why policies cannot be told of its configuration.
    pub(super) unread: Option<Reason>,
    /// Whether the index says what it is for.
    pub(super) is_named: bool,
    /// Whether it says that it takes features of the operating system.
    pub(super) has_features: bool,
    pub(super) revision: Option<Rev>,
    /// When the answer to whether its distribution is past its end of life changes by itself.
    pub(super) end_of_life_ms: Option<u64>,
}

impl Gathered {
    pub(super) fn digest(&self) -> &Digest {
        &self.row.digest
    }

    /// Takes the facts in, to be kept with a decision. What cannot be kept is not judged: no verdict is without its evidence.
    ///
    /// # Errors
    /// None where the facts are too large: they are then the reason why.
    pub(super) fn keep(&mut self) -> Result<Pending, DocumentError> {
        let mut pending = Pending::default();
        let Ok(facts) = &self.facts else { return Ok(pending) };
        match stored::keep(&mut pending, facts) {
            Err(error @ DocumentError::TooLarge { .. }) => {
                self.facts = Err(too_large(&error));
                Ok(Pending::default())
            }
            kept => kept.map(|_| pending),
        }
    }
}

/// Reads everything. `None` where the tag points at nothing that is there.
pub(super) async fn tag(
    app: &App,
    repository: &RepoName,
    tag: &Tag,
) -> Result<Option<Gathered>, PromoteError> {
    let found = manifest::read(&app.store, repository, &Target::Tag(tag.clone())).await?;
    let Some((found, bytes)) = found else { return Ok(None) };
    let Some((row, revision)) = found.tag else { return Ok(None) };
    let manifest = Manifest::parse(&bytes, Some(&found.row.media_type))
        .map_err(|error| PromoteError::Facts(error.to_string()))?;
    let is_index = manifest.kind == ManifestKind::Index;
    let annotations = if is_index { manifest.annotations.clone() } else { Default::default() };
    let platforms = if is_index {
        platforms(app, repository, &manifest).await?
    } else {
        let row = manifest_row(app, repository, &found.digest).await?;
        Ok(vec![platform(app, repository, found.digest.clone(), row, Some(manifest), None).await?])
    };
    let stage = stage(repository, tag);
    let input = TagInput {
        repository: repository.clone(),
        tag: tag.clone(),
        revision: revision.0,
        digest: found.digest,
        media_type: found.row.media_type,
        at_ms: row.at_ms,
        by: row.by.clone(),
        annotations,
        is_index,
        approvals: approvals(app, &row, &stage).await?,
    };
    let at_ms = app.now_ms();
    let (facts, scans) = match platforms {
        Ok(platforms) => {
            let (platforms, scans): (_, Vec<Scan>) = platforms.into_iter().unzip();
            let facts = match scans.iter().find_map(|scan| scan.unread.clone()) {
                Some(reason) => Err(reason),
                None => sealed(assemble(&input, platforms, at_ms))?,
            };
            (facts, scans)
        }
        Err(reason) => (Err(reason), Vec::new()),
    };
    Ok(Some(Gathered { stage, row, revision, at_ms, facts, scans }))
}

/// Facts that no longer change, or why they are more than policies are told.
fn sealed(facts: ImageFacts) -> Result<Result<Arc<SealedFacts>, Reason>, PromoteError> {
    match facts.seal() {
        Ok(facts) => Ok(Ok(facts)),
        Err(error @ FactsError::TooLarge { .. }) => Ok(Err(too_large(&error))),
        Err(error) => Err(PromoteError::Facts(error.to_string())),
    }
}

fn too_large(why: &dyn std::fmt::Display) -> Reason {
    let hint = "push it with fewer platforms in one index, or with shorter labels and annotations";
    Reason::new("facts-too-large", format!("{why}; hint: {hint}"))
}

/// The platforms of an index, or why they are too many.
async fn platforms(
    app: &App,
    repository: &RepoName,
    index: &Manifest,
) -> Result<Result<Vec<(PlatformInput, Scan)>, Reason>, PromoteError> {
    let entries = index::platforms(&app.store, repository, index).await?;
    if entries.len() > PLATFORMS_MAX {
        let text = format!(
            "the index has {} platforms, more than the {PLATFORMS_MAX} that are judged; hint: push those that are to be \
             promoted as an index of their own",
            entries.len()
        );
        return Ok(Err(Reason::new("too-many-platforms", text)));
    }
    let mut platforms = Vec::with_capacity(entries.len());
    for entry in entries {
        let row = manifest_row(app, repository, &entry.digest).await?;
        let manifest = manifest::parsed(&app.store, repository, &entry.digest).await?;
        let declared = entry.platform.clone();
        let is_marked = declared.as_ref().is_some_and(wharf_oci::Platform::is_unknown);
        if is_marked && manifest.as_ref().is_some_and(|manifest| !manifest.may_run()) {
            // It came just now.
            continue;
        }
        platforms.push(platform(app, repository, entry.digest.clone(), row, manifest, declared).await?);
    }
    Ok(Ok(platforms))
}

/// The revision of a manifest's row. Read first: what comes after it, the manifest or what that lacked, is met by the commit.
async fn manifest_row(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Option<Rev>, PromoteError> {
    Ok(app.store.get(&row::manifest(repository, digest)).await?.map(|row| row.rev))
}

/// One platform with all that is known of it.
async fn platform(
    app: &App,
    repository: &RepoName,
    digest: Digest,
    row: Option<Rev>,
    manifest: Option<Manifest>,
    declared: Option<wharf_oci::Platform>,
) -> Result<(PlatformInput, Scan), PromoteError> {
    let found = scanned::find_at(&app.store, &digest).await?;
    let revision = found.as_ref().map(|(_, revision)| *revision);
    // What another repository holds says nothing of what is not here: the manifest may come after this was judged.
    let scanned = found.filter(|_| manifest.is_some()).map(|(scanned, _)| scanned);
    let scanned = scanned.unwrap_or_else(|| Scanned::not_yet(manifest.as_ref()));
    let components = list(app, Kind::Components, &scanned.components).await?;
    let findings = list(app, Kind::Findings, &scanned.findings).await?;
    let config = match manifest.as_ref().filter(|m| m.is_container_image()).and_then(|m| m.config.as_ref()) {
        Some(config) => read_config(app, repository, &config.digest).await?.map(Some),
        None => Ok(None),
    };
    let (config, unread) = match config {
        Ok(config) => (config, None),
        Err(reason) => (None, Some(reason)),
    };
    let scan = Scan {
        digest: digest.clone(),
        is_here: manifest.is_some(),
        row,
        unread,
        is_named: declared.is_some(),
        has_features: declared.as_ref().is_some_and(|platform| platform.os_features.is_some()),
        revision,
        end_of_life_ms: scanned.end_of_life_ms,
    };
    let input = PlatformInput { digest, manifest, platform: declared, config, scanned, components, findings };
    Ok((input, scan))
}

async fn list<T: serde::de::DeserializeOwned>(
    app: &App,
    kind: Kind,
    digest: &Option<String>,
) -> Result<Vec<T>, PromoteError> {
    match digest {
        Some(digest) => Ok(document::read_json(&app.store, kind, digest).await?),
        None => Ok(Vec::new()),
    }
}

/// A configuration, or why policies cannot be told what it says: they would find nothing in it to refuse.
async fn read_config(
    app: &App,
    repository: &RepoName,
    digest: &Digest,
) -> Result<Result<ImageConfig, Reason>, PromoteError> {
    let held = |code: &str, why: &dyn std::fmt::Display| {
        // It may quote as much of the document as there is.
        let why = why.to_string();
        let why = reasons::beginning(&why, WHY_BYTES_MAX);
        Ok(Err(Reason::new(code, format!("the configuration `{digest}` {why}"))))
    };
    let Some(found) = blob::find(&app.store, repository, digest).await? else {
        return held("unreadable-config", &"is not in the repository");
    };
    if found.size > CONFIG_BYTES_MAX {
        let why = format_args!("has {} bytes, more than {CONFIG_BYTES_MAX}", found.size);
        return held("unreadable-config", &why);
    }
    let failed =
        |error: &dyn std::fmt::Display| PromoteError::Facts(format!("`{digest}` cannot be read: {error}"));
    let bytes = match found.stored {
        Stored::Inline(bytes) => bytes,
        Stored::File(id) => {
            let reader = app.blobs.open(&id).await.map_err(|error| failed(&error))?;
            reader.bytes(0..reader.size()).await.map_err(|error| failed(&error))?
        }
    };
    match unambiguous_config(&bytes) {
        Err(error) if error.is_data() => {
            return held("ambiguous-config", &format_args!("is not the same to all who read it: {error}"));
        }
        // What is behind the place is not looked at, and another reader may go on.
        Err(error) => return held("unreadable-config", &format_args!("cannot be read: {error}")),
        Ok(()) => {}
    }
    match ImageConfig::parse(&bytes) {
        Ok(config) => Ok(Ok(config)),
        Err(error) => held("unreadable-config", &format_args!("cannot be read: {error}")),
    }
}

/// Who let the image through each stage that it has passed, oldest first.
async fn approvals(app: &App, row: &TagRow, here: &Stage) -> Result<Vec<Approval>, PromoteError> {
    let mut approvals = Vec::new();
    let stages = row.lineage.iter().chain([here]);
    for (from, to) in row.lineage.iter().zip(stages.skip(1)) {
        let Some(decision) = past::led(app, from, to, &row.digest).await? else { continue };
        let by = match &decision.authority {
            Authority::Binding { binding, .. } => format!("policy:{binding}"),
            Authority::Hand { by, .. } => by.clone(),
        };
        approvals.push(Approval { stage: to.repository.to_string(), by, at_ms: decision.at_ms });
    }
    Ok(approvals)
}
