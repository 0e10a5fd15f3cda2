use serde::{Deserialize, Serialize};
use wharf_oci::{Digest, RepoName, Tag};
use wharf_store::{Key, KeyRange, Space, Store, StoreError, Tx, key, number};

use super::binding::Mode;
use super::compose::{Reason, Verdict};
use crate::event::{EventId, Stage};

/// Decisions in one page.
const PAGE_MAX: usize = 200;

/// One judgement of one tag, with what it was based on. What it names by digest is kept as long as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// Its place in the tag's history: rises with time, unique there.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    #[schema(value_type = String)]
    pub repository: RepoName,
    #[schema(value_type = String)]
    pub tag: Tag,
    /// Revision of the tag's row: changes whenever it is pointed elsewhere.
    pub tag_revision: u64,
    #[schema(value_type = String)]
    pub digest: Digest,
    #[serde(flatten)]
    pub authority: Authority,
    pub verdict: Verdict,
    /// The host's own reasons; those of the policies are theirs.
    pub reasons: Vec<Reason>,
    pub policies: Vec<Judged>,
    /// What came of it, target by target.
    pub effects: Vec<Effect>,
    /// Digest of the facts document; absent where nobody was asked: for a promotion by hand, and where it would be too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<String>,
    /// When an age rule wants to be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck_at_ms: Option<u64>,
    /// Version of the host that decided.
    pub host: String,
    /// The event that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cause: Option<EventId>,
}

/// By what right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "authority", rename_all = "kebab-case")]
pub enum Authority {
    /// A binding, with its owner's rights.
    Binding {
        binding: String,
        // By itself, as utoipa does not know serde's `rename_all_fields`.
        #[serde(rename = "binding-revision")]
        binding_revision: u64,
        owner: String,
        mode: Mode,
        /// Names of the targets that policies could choose among.
        offered: Vec<String>,
    },
    /// Somebody, by hand.
    Hand { by: String, note: String },
}

impl Authority {
    /// The binding's name; none for a decision by hand.
    pub fn binding(&self) -> Option<&str> {
        match self {
            Authority::Binding { binding, .. } => Some(binding),
            Authority::Hand { .. } => None,
        }
    }
}

/// What one policy said of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Judged {
    pub plugin: String,
    /// Version and digest of the plugin; empty where it is gone.
    pub plugin_version: String,
    pub plugin_digest: String,
    /// Digest of the config, as the plugin got it.
    pub config: String,
    /// The platform judged, by its place in the facts document and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    pub platform_index: u32,
    /// What the policy itself said; absent where it failed or could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Verdict>,
    /// What that counts as, after the host's own rules.
    pub verdict: Verdict,
    pub reasons: Vec<Reason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck_at_ms: Option<u64>,
    /// Digest of the trace; absent where the plugin was not called, or asked more than can be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Why it is a hold although the plugin did not say so: it is gone, it trapped, it asked about no missing data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_because: Option<Reason>,
}

/// What a decision did about one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Effect {
    /// The target's name in the binding; empty for a promotion by hand.
    pub target: String,
    /// Where that is for this image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The target's tag points at the image.
    Promoted,
    /// This revision of the source's tag was promoted there before.
    Already,
    /// The target refuses it: quota, immutability, the owner's rights, a circle.
    Held { reason: Reason },
    /// The binding only watches.
    Shadow,
}

impl Decision {
    /// Where the image stood.
    pub fn stage(&self) -> Stage {
        Stage { repository: self.repository.clone(), tag: self.tag.clone() }
    }

    /// The first reason that explains the verdict, for one line.
    pub fn first_reason(&self) -> String {
        let deciding = self.policies.iter().filter(|judged| judged.verdict == self.verdict);
        let theirs = deciding.flat_map(|judged| judged.held_because.iter().chain(&judged.reasons));
        let held = self.effects.iter().filter_map(|effect| match &effect.outcome {
            Outcome::Held { reason } => Some(reason),
            _ => None,
        });
        held.chain(&self.reasons).chain(theirs).next().map(|reason| reason.text.clone()).unwrap_or_default()
    }
}

fn decision_key(repository: &RepoName, tag: &Tag, n: u64) -> Key {
    key(Space::Decision, &[repository.as_str(), tag.as_str(), &number(n)])
}

/// A number that no decision of this tag has yet, from the time; expects it to stay free.
pub async fn next_number(
    tx: &mut Tx,
    repository: &RepoName,
    tag: &Tag,
    now_ms: u64,
) -> Result<u64, StoreError> {
    let mut n = now_ms;
    while tx.get(&decision_key(repository, tag, n)).await?.is_some() {
        n += 1;
    }
    Ok(n)
}

pub fn put(tx: &mut Tx, decision: &Decision) -> Result<(), StoreError> {
    tx.put_value(&decision_key(&decision.repository, &decision.tag, decision.number), decision)
}

/// One decision.
pub async fn find(
    store: &Store,
    repository: &RepoName,
    tag: &Tag,
    n: u64,
) -> Result<Option<Decision>, StoreError> {
    store.get(&decision_key(repository, tag, n)).await?.map(|row| row.value()).transpose()
}

/// A tag's decisions, newest first, from before the decision `before` if given; at most 200, and fewer where they are
/// large: none is the end.
pub async fn history(
    store: &Store,
    repository: &RepoName,
    tag: &Tag,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Decision>, StoreError> {
    let mut range = KeyRange::prefix(Space::Decision, &[repository.as_str(), tag.as_str()]);
    if let Some(before) = before {
        range = range.before(&decision_key(repository, tag, before));
    }
    let page = store.scan_back(range, limit.clamp(1, PAGE_MAX)).await?;
    page.rows.iter().map(wharf_store::Row::value).collect()
}

/// A page over all decisions, in the order of repository, tag and number, from behind `after`; with the place to go on.
pub async fn page(
    store: &Store,
    after: Option<&Key>,
    limit: usize,
) -> Result<(Vec<Decision>, Option<Key>), StoreError> {
    let mut range = KeyRange::all(Space::Decision);
    if let Some(after) = after {
        range = range.after(after);
    }
    let page = store.scan(range, limit.clamp(1, PAGE_MAX)).await?;
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    Ok((page.rows.iter().map(wharf_store::Row::value).collect::<Result<_, _>>()?, next))
}

/// Takes a decision away; what it names may then be collected.
pub fn remove(tx: &mut Tx, decision: &Decision) {
    tx.delete(&decision_key(&decision.repository, &decision.tag, decision.number));
}

/// What has been promoted of one revision of one tag by one binding: the promotion key's row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    pub targets: Vec<Promoted>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// The target's name in the binding.
    pub target: String,
    /// Where that was.
    pub to: Stage,
    pub at_ms: u64,
    /// The decision in the source's history.
    pub decision: u64,
}

impl Promotion {
    /// Where the image was promoted to in this target's repository. A tag that a template dates is another at each try; a
    /// target that a change of the binding has moved to another repository is another target.
    pub fn of(&self, target: &str, repository: &RepoName) -> Option<&Promoted> {
        self.targets
            .iter()
            .find(|promoted| promoted.target == target && promoted.to.repository == *repository)
    }
}

fn promotion_key(binding: &str, from: &Stage, tag_revision: u64) -> Key {
    let (repository, tag) = (from.repository.as_str(), from.tag.as_str());
    key(Space::Promotion, &[binding, repository, tag, &number(tag_revision)])
}

/// What was promoted under this key, expected to stay as it is.
pub async fn promotion(
    tx: &mut Tx,
    binding: &str,
    from: &Stage,
    tag_revision: u64,
) -> Result<Promotion, StoreError> {
    let row = tx.get(&promotion_key(binding, from, tag_revision)).await?;
    row.map_or_else(|| Ok(Promotion::default()), |row| row.value())
}

pub fn put_promotion(
    tx: &mut Tx,
    binding: &str,
    from: &Stage,
    tag_revision: u64,
    promotion: &Promotion,
) -> Result<(), StoreError> {
    tx.put_value(&promotion_key(binding, from, tag_revision), promotion)
}

/// A page of promotion keys, each with its source and the revision that it is of, from behind `after`, and where to go on.
pub async fn promotions(
    store: &Store,
    after: Option<&Key>,
) -> Result<(Vec<(Key, Stage, u64)>, Option<Key>), StoreError> {
    let all = KeyRange::all(Space::Promotion);
    let page = store.scan(after.map_or(all.clone(), |after| all.after(after)), PAGE_MAX).await?;
    let of = |row: &wharf_store::Row| {
        let parts = row.key.parts();
        let [_, repository, tag, revision] = parts.as_slice() else { return None };
        let stage = Stage { repository: repository.parse().ok()?, tag: tag.parse().ok()? };
        Some((row.key.clone(), stage, wharf_store::parse_number(revision)?))
    };
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    Ok((page.rows.iter().filter_map(of).collect(), next))
}
