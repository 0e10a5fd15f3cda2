//! What became of plugin files: what is in force by name, and what was refused.
//!
//! Rows of `Space::Plugin`: `active/NAME` → [`ActiveRow`]; `quarantine/FILE/DIGEST` → [`QuarantineRow`], kept after the
//! file is gone as long as events are, the newest [`QUARANTINE_MAX`] of each file; `refused/FILE`, empty, for each file that is
//! refused now; `archived/DIGEST`, empty, for each plugin whose bytes are kept.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use wharf_plugin::catalog::Failed;
use wharf_plugin::loader::{Active, Before, Outcome};
use wharf_store::{Key, KeyRange, Rev, Row, Space, Store, StoreError, Tx, key};

use crate::event::{self, Event, Kind};

/// Refused versions of one file that are remembered.
pub const QUARANTINE_MAX: usize = 100;
/// Refusals in one listing: all of a folder that is full of bad files, and some that are over.
pub const QUARANTINE_SHOWN: usize = 300;
/// Refusals that one commit of a trim looks at.
const TRIM_ROWS: usize = 200;
/// Plugins in one listing, and rows in one page of others.
const LIST_MAX: usize = 1000;
/// Earlier versions of a plugin that are named.
const PREVIOUS_MAX: usize = 10;

/// A plugin in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ActiveRow {
    pub name: String,
    pub version: String,
    pub digest: String,
    pub file: String,
    /// Since when, in milliseconds since 1970.
    pub at_ms: u64,
    /// Digests of what it took the place of, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<String>,
}

/// A file that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuarantineRow {
    /// In the plugin folder; a name that ends in a slash is the folder itself. What is not UTF-8 in it is escaped.
    pub file: String,
    /// The plugin's name, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Empty where it could not be read.
    pub digest: String,
    /// How far it came: `read`, `inspect`, `grant`, `name`, `compile`, `self-test`, `archive`.
    pub stage: String,
    pub reason: String,
    pub at_ms: u64,
    /// What stays in force in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

fn active_key(name: &str) -> Key {
    key(Space::Plugin, &["active", name])
}

fn refused_key(file: &str) -> Key {
    key(Space::Plugin, &["refused", file])
}

fn archived_key(digest: &str) -> Key {
    key(Space::Plugin, &["archived", digest])
}

/// A plugin whose bytes are kept, as it was listed.
#[derive(Debug, Clone)]
pub struct Archived {
    pub digest: String,
    /// Of its row; none where a kill came between its bytes and that.
    rev: Option<Rev>,
}

impl Archived {
    /// One that no row names.
    pub fn without_row(digest: String) -> Self {
        Archived { digest, rev: None }
    }
}

/// Every plugin whose bytes are kept, by the rows.
pub async fn archived(store: &Store) -> Result<Vec<Archived>, StoreError> {
    let mut all = Vec::new();
    let mut range = KeyRange::prefix(Space::Plugin, &["archived"]);
    loop {
        let page = store.scan(range.clone(), LIST_MAX).await?;
        let of = |row: &Row| Some(Archived { digest: row.key.part(1)?, rev: Some(row.rev) });
        all.extend(page.rows.iter().filter_map(of));
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Ok(all),
        }
    }
}

/// Whether the plugin was not loaded since it was listed.
pub async fn is_as_listed(tx: &mut Tx, archived: &Archived) -> Result<bool, StoreError> {
    let row = tx.get(&archived_key(&archived.digest)).await?;
    Ok(row.map(|row| row.rev) == archived.rev)
}

/// A plugin's bytes are no longer kept, unless it was loaded since it was listed.
pub async fn forget_archived(tx: &mut Tx, archived: &Archived) -> Result<(), StoreError> {
    if is_as_listed(tx, archived).await? {
        tx.delete(&archived_key(&archived.digest));
    }
    Ok(())
}

/// What is in force by the rows, by name.
pub async fn active(store: &Store) -> Result<Vec<ActiveRow>, StoreError> {
    let rows = store.scan_all(KeyRange::prefix(Space::Plugin, &["active"]), LIST_MAX).await?;
    rows.iter().map(Row::value).collect()
}

/// Expects that nothing is written about the plugin of this name before the commit.
pub async fn expect_active(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    tx.get(&active_key(name)).await.map(drop)
}

/// How the folder was when the host stopped, as the loader takes it.
pub async fn before(store: &Store) -> Result<Before, StoreError> {
    let of = |row: ActiveRow| Active { file: row.file, name: row.name, digest: row.digest };
    let refused = store.scan_all(KeyRange::prefix(Space::Plugin, &["refused"]), LIST_MAX).await?;
    Ok(Before {
        active: active(store).await?.into_iter().map(of).collect(),
        refused: refused.iter().filter_map(|row| row.key.part(1)).collect(),
    })
}

/// What was refused, by file, the newest first in each: of all that is remembered the newest [`QUARANTINE_SHOWN`], those that
/// are `standing` before the others. Also whether there are more.
pub async fn quarantine(
    store: &Store,
    standing: impl Fn(&QuarantineRow) -> bool,
) -> Result<(Vec<QuarantineRow>, bool), StoreError> {
    let (mut shown, mut more) = (Vec::new(), false);
    let mut range = KeyRange::prefix(Space::Plugin, &["quarantine"]);
    loop {
        let page = store.scan(range.clone(), LIST_MAX).await?;
        for row in &page.rows {
            shown.push(row.value::<QuarantineRow>()?);
        }
        shown.sort_by_key(|row| (Reverse(standing(row)), Reverse(row.at_ms)));
        more |= shown.len() > QUARANTINE_SHOWN;
        shown.truncate(QUARANTINE_SHOWN);
        match page.rows.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => break,
        }
    }
    shown.sort_by(|a, b| (&a.file, b.at_ms).cmp(&(&b.file, a.at_ms)));
    Ok((shown, more))
}

/// Forgets refusals from before `cutoff_ms` of files that are not refused now: looks at [`TRIM_ROWS`] of them after `after`, and
/// returns how many went and where to go on.
pub async fn trim_quarantine(
    tx: &mut Tx,
    after: Option<&Key>,
    cutoff_ms: u64,
) -> Result<(usize, Option<Key>), StoreError> {
    let all = KeyRange::prefix(Space::Plugin, &["quarantine"]);
    let range = after.map_or(all.clone(), |after| all.after(after));
    let page = tx.peek_scan(range, TRIM_ROWS).await?;
    let mut forgotten = 0;
    for row in &page.rows {
        let refusal: QuarantineRow = row.value()?;
        if refusal.at_ms < cutoff_ms && tx.get(&refused_key(&refusal.file)).await?.is_none() {
            tx.delete(&row.key);
            forgotten += 1;
        }
    }
    let next = page.rows.last().filter(|_| page.more).map(|row| row.key.clone());
    Ok((forgotten, next))
}

/// Writes what became of one file, with its event. Returns whether anything changed.
pub async fn record(tx: &mut Tx, outcome: &Outcome, now_ms: u64) -> Result<bool, StoreError> {
    let kind = match outcome {
        Outcome::Unchanged { .. } => return Ok(false),
        Outcome::Loaded { file, name, version, digest, replaced } => {
            let key = active_key(name);
            let old: Option<ActiveRow> = tx.get(&key).await?.map(|row| row.value()).transpose()?;
            let mut previous = old.map(|old| old.previous).unwrap_or_default();
            previous.retain(|other| other != digest);
            if let Some(replaced) = replaced {
                previous.retain(|other| other != replaced);
                previous.insert(0, replaced.clone());
            }
            previous.truncate(PREVIOUS_MAX);
            let row = ActiveRow {
                name: name.clone(),
                version: version.clone(),
                digest: digest.clone(),
                file: file.clone(),
                at_ms: now_ms,
                previous,
            };
            tx.put_value(&key, &row)?;
            tx.put(&archived_key(digest), Vec::new());
            Kind::PluginLoaded {
                plugin: name.clone(),
                version: version.clone(),
                digest: digest.clone(),
                previous: replaced.clone(),
            }
        }
        Outcome::Removed { name, .. } => {
            tx.delete(&active_key(name));
            Kind::PluginRemoved { plugin: name.clone() }
        }
        Outcome::Quarantined { failed, kept } => {
            let Some(kind) = quarantined(tx, failed, kept.as_deref(), now_ms).await? else {
                return Ok(false);
            };
            kind
        }
        Outcome::RefusalEnded { file } => {
            tx.delete(&refused_key(file));
            return Ok(true);
        }
    };
    event::append(tx, &Event::system(now_ms, kind))?;
    Ok(true)
}

/// None where the file was refused just so when the host stopped: that is no news.
async fn quarantined(
    tx: &mut Tx,
    failed: &Failed,
    kept: Option<&str>,
    now_ms: u64,
) -> Result<Option<Kind>, StoreError> {
    let range = KeyRange::prefix(Space::Plugin, &["quarantine", &failed.file]);
    let rows = tx.scan_all(range, LIST_MAX).await?;
    let at_ms = |row: &&Row| row.value::<QuarantineRow>().map_or(0, |row| row.at_ms);
    let row = QuarantineRow {
        file: failed.file.clone(),
        name: failed.name.clone(),
        digest: failed.digest.clone(),
        stage: failed.stage.as_str().to_owned(),
        reason: failed.reason.clone(),
        at_ms: now_ms,
        kept: kept.map(str::to_owned),
    };
    let refused = refused_key(&failed.file);
    if tx.get(&refused).await?.is_some()
        && let Some(last) = rows.iter().max_by_key(at_ms)
        && (QuarantineRow { at_ms: now_ms, ..last.value()? }) == row
    {
        return Ok(None);
    }
    tx.put(&refused, Vec::new());
    if rows.len() >= QUARANTINE_MAX
        && let Some(oldest) = rows.iter().min_by_key(at_ms)
    {
        tx.delete(&oldest.key);
    }
    tx.put_value(&key(Space::Plugin, &["quarantine", &failed.file, &failed.digest]), &row)?;
    Ok(Some(Kind::PluginQuarantined {
        plugin: failed.name.clone().unwrap_or_else(|| failed.file.clone()),
        digest: failed.digest.clone(),
        stage: failed.stage.as_str().to_owned(),
        reason: failed.reason.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wharf_plugin::loader::Stage;
    use wharf_store::Model;

    use super::*;

    fn refused(digest: &str, reason: &str) -> Outcome {
        refused_file("a.wasm", digest, reason)
    }

    fn refused_file(file: &str, digest: &str, reason: &str) -> Outcome {
        let failed = Failed {
            file: file.to_owned(),
            name: None,
            digest: digest.to_owned(),
            stage: Stage::Inspect,
            reason: reason.to_owned(),
        };
        Outcome::Quarantined { failed, kept: None }
    }

    fn loaded(digest: &str) -> Outcome {
        Outcome::Loaded {
            file: "a.wasm".to_owned(),
            name: "a".to_owned(),
            version: "1.0.0".to_owned(),
            digest: digest.to_owned(),
            replaced: None,
        }
    }

    fn ended() -> Outcome {
        Outcome::RefusalEnded { file: "a.wasm".to_owned() }
    }

    fn removed(digest: &str) -> Outcome {
        Outcome::Removed { name: "a".to_owned(), digest: digest.to_owned() }
    }

    /// Records outcomes one after the other, each with whether it is news, and returns how many events there are then.
    async fn check(outcomes: &[(Outcome, bool)]) -> usize {
        let store = &Store::new(Arc::new(Model::default()));
        for (at, (outcome, news)) in outcomes.iter().enumerate() {
            let now_ms = at as u64;
            let act = store.act(|mut tx| async move { record(&mut tx, outcome, now_ms).await });
            assert_eq!(act.await.unwrap().0, *news, "{at}: {outcome:?}");
        }
        event::after(store, None, 100).await.unwrap().events.len()
    }

    /// Each restart told again of every file that was still refused.
    #[tokio::test]
    async fn a_refusal_is_news_once() {
        let outcomes = [
            (refused("sha256:1", "not a component"), true),
            (refused("sha256:1", "not a component"), false),
            (refused("sha256:1", "of another interface"), true),
            (refused("sha256:2", "of another interface"), true),
            (refused("sha256:1", "of another interface"), true),
            (loaded("sha256:3"), true),
            (ended(), true),
            (refused("sha256:1", "of another interface"), true),
            (refused("sha256:1", "of another interface"), false),
        ];
        assert_eq!(check(&outcomes).await, 6);
    }

    /// Regression: that the file had been good in between was read from its plugin's row, which was gone with the plugin.
    #[tokio::test]
    async fn a_refusal_is_news_again_after_the_plugin_was_removed() {
        let outcomes = [
            (refused("sha256:1", "not a component"), true),
            (loaded("sha256:2"), true),
            (ended(), true),
            (removed("sha256:2"), true),
            (refused("sha256:1", "not a component"), true),
            // So it is after the file was gone.
            (ended(), true),
            (refused("sha256:1", "not a component"), true),
            (refused("sha256:1", "not a component"), false),
        ];
        assert_eq!(check(&outcomes).await, 5);
    }

    #[tokio::test]
    async fn what_is_refused_now_is_known_at_the_next_start() {
        let store = &Store::new(Arc::new(Model::default()));
        let refused_before = async |outcome: Outcome| {
            let outcome = &outcome;
            let act = store.act(|mut tx| async move { record(&mut tx, outcome, 1).await });
            act.await.unwrap();
            before(store).await.unwrap().refused
        };
        assert_eq!(
            refused_before(refused("sha256:1", "no")).await,
            std::collections::BTreeSet::from(["a.wasm".to_owned()])
        );
        assert!(refused_before(ended()).await.is_empty());
    }

    /// Regression: a folder whose files have another name each time filled the listing with what was long gone.
    #[tokio::test]
    async fn a_refusal_is_forgotten_once_it_is_old_and_over() {
        let store = &Store::new(Arc::new(Model::default()));
        let trim = async |cutoff_ms: u64| {
            let trim = store.act(|mut tx| async move { trim_quarantine(&mut tx, None, cutoff_ms).await });
            trim.await.unwrap().0
        };
        for outcome in [&refused("sha256:1", "no"), &refused("sha256:2", "no")] {
            store.act(|mut tx| async move { record(&mut tx, outcome, 10).await }).await.unwrap();
        }
        assert_eq!(trim(11).await, (0, None), "it is refused now");
        store.act(|mut tx| async move { record(&mut tx, &ended(), 20).await }).await.unwrap();
        assert_eq!(trim(10).await, (0, None), "not old yet");
        assert_eq!(trim(11).await, (2, None));
        assert!(quarantine(store, |_| true).await.unwrap().0.is_empty());
    }

    /// Regression: of more than a thousand refusals, those of the first names were listed, and others that stand were not.
    #[tokio::test]
    async fn what_stands_is_listed_however_much_is_over() {
        let store = &Store::new(Arc::new(Model::default()));
        let names = (0..QUARANTINE_SHOWN + 800).map(|n| format!("{n:04}.wasm"));
        for (at_ms, file) in ["z.wasm".to_owned()].into_iter().chain(names).enumerate() {
            let outcome = &refused_file(&file, "sha256:1", "no");
            store.act(|mut tx| async move { record(&mut tx, outcome, at_ms as u64).await }).await.unwrap();
        }
        let (shown, more) = quarantine(store, |row| row.file == "z.wasm").await.unwrap();
        assert!(more && shown.len() == QUARANTINE_SHOWN, "{}", shown.len());
        assert_eq!(
            (shown[0].file.as_str(), shown[QUARANTINE_SHOWN - 1].file.as_str()),
            ("0801.wasm", "z.wasm")
        );
    }
}
