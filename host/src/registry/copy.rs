//! An image taken along to another repository by reference: rows, never bytes. Promotion stands on this.
//!
//! [`plan`] walks the image: the manifests of an index and all referrers, recursively. The flow then commits the plan's
//! [`Plan::chunks`] one by one, each of which may be repeated, and at last [`root`] together with its own tag, decision
//! and event. Until then no tag has changed; who knows their digests can pull the parts that are linked. What a broken-off copy
//! leaves in the target is held by nothing, and collected after the grace period.
//!
//! ```text
//! let plan = copy::plan(&app.store, from, digest).await?;
//! for chunk in plan.chunks() {
//!     app.store.act(|mut tx| async move { copy::steps(&mut tx, from, to, chunk, by, now_ms).await }).await?;
//! }
//! app.store.act(|mut tx| async move {
//!     let descriptor = copy::root(&mut tx, from, to, &plan, by, now_ms).await?;
//!     tag::point(&mut tx, to, tag, &descriptor, by, now_ms, &lineage).await?;
//!     …
//! })
//! ```
//!
//! Invariant: the target's quota is charged for what the target's namespace did not hold yet, in the commit that links it.

use std::collections::{BTreeMap, BTreeSet};

use wharf_oci::{Descriptor, Digest, Manifest, RepoName, Target};
use wharf_store::{MAX_PAGE, Store, Tx};

use super::manifest::{self, Checked, Known, Sparse};
use super::row::{self, ManifestRow};
use super::{RegistryError, blob};

/// Most manifests that one image may consist of, referrers included.
pub const MANIFESTS_MAX: usize = 2048;
/// Blobs that one step links.
const BLOBS_A_STEP: usize = 128;
/// Operations of one chunk, by [`Step::ops`]; the store takes 1,024.
const OPS_A_CHUNK: usize = 640;
/// Operations that a blob may cost: its link, its charge and its reference.
const OPS_A_BLOB: usize = 3;
/// Operations of a manifest besides its blobs: bytes, link, charge, reference, row, referrer, repository, event.
const OPS_A_MANIFEST: usize = 8;

/// One thing to do in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Link blobs.
    Blobs(Vec<Digest>),
    /// Link a manifest, with the references to what was linked before it.
    Manifest { digest: Digest, needs: usize },
}

impl Step {
    fn ops(&self) -> usize {
        match self {
            Step::Blobs(blobs) => blobs.len() * OPS_A_BLOB,
            Step::Manifest { needs, .. } => OPS_A_MANIFEST + needs,
        }
    }
}

/// What copying one image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    root: Digest,
    /// In an order in which every manifest follows what it needs; the root is the last.
    steps: Vec<Step>,
}

impl Plan {
    /// The steps without the root's own, in portions that fit one commit each.
    pub fn chunks(&self) -> Vec<&[Step]> {
        portions(self.steps.split_last().map_or(&[], |(_, before)| before))
    }

    /// All manifests, each behind what it needs.
    pub fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.steps.iter().filter_map(|step| match step {
            Step::Manifest { digest, .. } => Some(digest),
            Step::Blobs(_) => None,
        })
    }

    /// As [`Plan::chunks`], with the root: for a referrer, which comes along as all others do.
    pub fn whole(&self) -> Vec<&[Step]> {
        portions(&self.steps)
    }
}

fn portions(steps: &[Step]) -> Vec<&[Step]> {
    let mut portions = Vec::new();
    let (mut start, mut ops) = (0, 0);
    for (i, step) in steps.iter().enumerate() {
        if ops + step.ops() > OPS_A_CHUNK && i > start {
            portions.push(&steps[start..i]);
            (start, ops) = (i, 0);
        }
        ops += step.ops();
    }
    if start < steps.len() {
        portions.push(&steps[start..]);
    }
    portions
}

/// A referrer that the target did not have before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    pub digest: Digest,
    pub subject: Digest,
}

/// Walks an image of `from`: itself, the manifests of an index, their referrers and so on. A container image is no referrer,
/// whatever its subject, and none comes along in an index that is one: it would come to the target unjudged.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`] where the image is not there, [`RegistryError::TooManyManifests`] where it is
/// made of more than [`MANIFESTS_MAX`] manifests; else only where the store cannot be read.
pub async fn plan(store: &Store, from: &RepoName, root: &Digest) -> Result<Plan, RegistryError> {
    walk(store, from, root, Runs::Copied).await
}

/// As [`plan`], of what is said of images that were promoted before: no container image is copied, wherever it is met, but what
/// refers to it is.
///
/// # Errors
/// Those of [`plan`].
pub async fn plan_said(store: &Store, from: &RepoName, root: &Digest) -> Result<Plan, RegistryError> {
    walk(store, from, root, Runs::Left).await
}

/// What becomes of the container images that are a part of what is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    Copied,
    Left,
}

async fn walk(store: &Store, from: &RepoName, root: &Digest, runs: Runs) -> Result<Plan, RegistryError> {
    let mut plan = Plan { root: root.clone(), steps: Vec::new() };
    // A manifest is entered twice: first to put what it needs before it, then to take up its own steps. Those wait, and not its
    // bytes, of which a chain of referrers may have any number.
    let mut stack = vec![(root.clone(), None::<Vec<Step>>, false)];
    let mut seen = BTreeSet::from([root.clone()]);
    // Container images that are referrers, and indexes of such.
    let mut aside = BTreeSet::new();
    let mut looked = BTreeMap::new();
    while let Some((digest, entered, is_referrer)) = stack.pop() {
        if let Some(own) = entered {
            plan.steps.extend(own);
            continue;
        }
        let Some(manifest) = manifest::parsed(store, from, &digest).await? else {
            if digest == *root {
                let target = Target::Digest(digest);
                return Err(RegistryError::ManifestUnknown { repository: from.clone(), target });
            }
            // A sparse index names it, or it is just being deleted.
            continue;
        };
        let runs_too = manifest.is_container_image()
            || (is_referrer || runs == Runs::Left)
                && holds_images(store, from, &manifest, &mut looked).await?;
        if is_referrer && runs_too {
            // It may be a part of the image all the same, and is met as that later.
            seen.remove(&digest);
            aside.insert(digest);
            continue;
        }
        let children = manifest.manifests.iter().map(|child| (child.digest.clone(), None, is_referrer));
        let referrers = referrers(store, from, &digest).await?.into_iter().map(|digest| (digest, None, true));
        let mut next: Vec<_> = children.chain(referrers).collect();
        next.retain(|(digest, _, is_referrer)| {
            !(*is_referrer && aside.contains(digest)) && seen.insert(digest.clone())
        });
        if (seen.len() + aside.len()).max(looked.len()) > MANIFESTS_MAX {
            return Err(RegistryError::TooManyManifests { digest: root.clone(), max: MANIFESTS_MAX });
        }
        if runs == Runs::Copied || !runs_too {
            stack.push((digest.clone(), Some(own_steps(digest, &manifest)), is_referrer));
        }
        stack.extend(next.into_iter().rev());
    }
    Ok(plan)
}

/// Whether an index names container images, or indexes, which may.
async fn holds_images(
    store: &Store,
    from: &RepoName,
    index: &Manifest,
    looked: &mut BTreeMap<Digest, bool>,
) -> Result<bool, RegistryError> {
    for child in &index.manifests {
        let runs = match looked.get(&child.digest) {
            Some(runs) => *runs,
            // The walk ends: it is too much.
            None if looked.len() > MANIFESTS_MAX => true,
            None => {
                let found = manifest::parsed(store, from, &child.digest).await?;
                let runs = found.is_some_and(|found| found.may_run());
                looked.insert(child.digest.clone(), runs);
                runs
            }
        };
        if runs {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What it takes to copy a manifest whose children are there.
fn own_steps(digest: Digest, manifest: &Manifest) -> Vec<Step> {
    let blobs: BTreeSet<&Digest> = manifest.blobs().map(|blob| &blob.digest).collect();
    let needs = blobs.len() + manifest.manifests.len();
    let blobs: Vec<Digest> = blobs.into_iter().cloned().collect();
    let link = blobs.chunks(BLOBS_A_STEP).map(|chunk| Step::Blobs(chunk.to_vec()));
    link.chain([Step::Manifest { digest, needs }]).collect()
}

/// The way up: a manifest of `from` with all that it is about or part of, which is its subject unless it is a container image
/// itself, the indexes that hold it, and what these are about in turn. An image's [`plan`] takes along what has the image above it.
/// Returns the nearest [`MANIFESTS_MAX`], itself the first, and whether there are more.
///
/// # Errors
/// Only where the store cannot be read.
pub async fn above(
    store: &Store,
    from: &RepoName,
    digest: &Digest,
) -> Result<(Vec<Digest>, bool), RegistryError> {
    let mut found = vec![digest.clone()];
    let mut seen: BTreeSet<Digest> = found.iter().cloned().collect();
    let mut at = 0;
    while let Some(digest) = found.get(at).cloned() {
        let manifest = manifest::parsed(store, from, &digest).await?;
        let subject =
            manifest.filter(|manifest| !manifest.is_container_image()).and_then(|said| said.subject);
        let indexes = blob::holders(store, from, &digest, MANIFESTS_MAX + 1).await?;
        let next = subject.map(|subject| subject.digest).into_iter().chain(indexes);
        found.extend(next.filter(|digest| seen.insert(digest.clone())));
        if found.len() > MANIFESTS_MAX {
            found.truncate(MANIFESTS_MAX);
            return Ok((found, true));
        }
        at += 1;
    }
    Ok((found, false))
}

async fn referrers(
    store: &Store,
    repository: &RepoName,
    subject: &Digest,
) -> Result<Vec<Digest>, RegistryError> {
    let mut found = Vec::new();
    let mut range = row::referrers(repository, subject);
    while found.len() <= MANIFESTS_MAX {
        let page = store.scan(range.clone(), MAX_PAGE).await?;
        found.extend(page.rows.iter().filter_map(|row| row.key.part(2)?.parse::<Digest>().ok()));
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => break,
        }
    }
    Ok(found)
}

/// Does one of [`Plan::chunks`] or [`Plan::whole`]. What is in the target already costs reads only. Returns the referrers that
/// came.
///
/// # Errors
/// [`RegistryError::ManifestBlobUnknown`] where the source lost something meanwhile. A quota that is exhausted, as the store's [`wharf_store::StoreError::Bound`] at the commit; see
/// [`super::quota::explain`].
pub async fn steps(
    tx: &mut Tx,
    from: &RepoName,
    to: &RepoName,
    steps: &[Step],
    by: &str,
    now_ms: u64,
) -> Result<Vec<Referrer>, RegistryError> {
    let mut came = Vec::new();
    for step in steps {
        match step {
            Step::Blobs(blobs) => {
                for digest in blobs {
                    blob::mount_if_absent(tx, from, to, digest, now_ms).await?;
                }
            }
            // Gone meanwhile: what needs it takes it as sparse, which the source is by now.
            Step::Manifest { digest, .. } => {
                let copied = one(tx, from, to, digest, by, now_ms, false).await?;
                let new = copied.filter(|copied| copied.is_new).and_then(|new| new.checked.manifest.subject);
                came.extend(new.map(|subject| Referrer { digest: digest.clone(), subject: subject.digest }));
            }
        }
    }
    Ok(came)
}

/// Copies the image itself, after all of [`Plan::chunks`]. From this commit on it is kept for its own sake.
///
/// # Errors
/// [`RegistryError::ManifestUnknown`] where the source was deleted meanwhile, [`RegistryError::ManifestBlobUnknown`] where
/// something that it needs was; else as [`steps`].
pub async fn root(
    tx: &mut Tx,
    from: &RepoName,
    to: &RepoName,
    plan: &Plan,
    by: &str,
    now_ms: u64,
) -> Result<Descriptor, RegistryError> {
    let copied = one(tx, from, to, &plan.root, by, now_ms, true).await?;
    copied.map(|copied| copied.checked.descriptor()).ok_or_else(|| {
        let target = Target::Digest(plan.root.clone());
        RegistryError::ManifestUnknown { repository: from.clone(), target }
    })
}

/// A manifest that is in the target now.
struct Copied {
    checked: Checked,
    is_new: bool,
}

/// Copies one manifest, whose blobs and children are linked already. `None` where the source does not have it.
async fn one(
    tx: &mut Tx,
    from: &RepoName,
    to: &RepoName,
    digest: &Digest,
    by: &str,
    now_ms: u64,
    keep: bool,
) -> Result<Option<Copied>, RegistryError> {
    let Some(source) = tx.get(&row::manifest(from, digest)).await? else { return Ok(None) };
    let source: ManifestRow = source.value()?;
    let Some(bytes) = blob::peek(tx, digest).await?.and_then(blob::inline) else { return Ok(None) };
    let checked = Checked::new(bytes, Some(&source.media_type), &Target::Digest(digest.clone()))?;
    let is_new = manifest::refresh(tx, to, &checked, keep).await? == Known::Absent;
    if is_new {
        blob::mount_if_absent(tx, from, to, digest, now_ms).await?;
        // What the source lost since its plan was made is no reason to call the copy whole.
        let sparse = if source.sparse { Sparse::Images } else { Sparse::Nothing };
        manifest::write(tx, to, &checked, by, now_ms, sparse, keep).await?;
    }
    Ok(Some(Copied { checked, is_new }))
}
