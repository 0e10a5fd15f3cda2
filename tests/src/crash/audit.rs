//! What is on the disk of a stopped server, row by row and file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use wharf_oci::Digest;
use wharf_store::links::{self, Blob, FRESH_MS};
use wharf_store::{Blobs, KeyRange, MAX_PAGE, Options, Row, Space, Store, Stored};

/// How many times a closed store is tried: its last handle ends on a thread of its own.
const OPEN_TRIES: u32 = 100;

/// Every row of a space, by the parts of its key.
type Rows = BTreeMap<Vec<String>, Row>;

struct Disk {
    store: Store,
    blobs: Blobs,
}

impl Disk {
    async fn open(data: &Path) -> Result<Disk> {
        let mut tries = 0;
        let store = loop {
            match Store::open(data, &Options::default()) {
                Ok(store) => break store,
                Err(_) if tries < OPEN_TRIES => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error).context("the store does not open"),
            }
        };
        Ok(Disk { store, blobs: Blobs::open_dir(data, 0)? })
    }

    async fn rows(&self, space: Space) -> Result<Rows> {
        let (mut rows, mut range) = (Rows::new(), KeyRange::all(space));
        loop {
            let page = self.store.scan(range.clone(), MAX_PAGE).await?;
            let last = page.rows.last().map(|row| row.key.clone());
            rows.extend(page.rows.into_iter().map(|row| (row.key.parts(), row)));
            match last {
                Some(last) if page.more => range = range.after(&last),
                _ => return Ok(rows),
            }
        }
    }

    /// The ids and sizes of files that blob rows name.
    async fn named(&self) -> Result<BTreeMap<String, u64>> {
        let mut named = BTreeMap::new();
        for row in self.rows(Space::Blob).await?.values() {
            let blob = Blob::decode(row)?;
            if let Stored::File(id) = blob.stored {
                named.insert(id.to_string(), blob.size);
            }
        }
        Ok(named)
    }

    async fn files(&self) -> Result<BTreeMap<String, u64>> {
        let mut files = BTreeMap::new();
        for digit in 0..16 {
            files.extend(
                self.blobs.list(digit).await?.into_iter().map(|file| (file.id.to_string(), file.size)),
            );
        }
        Ok(files)
    }
}

fn has(rows: &Rows, key: &[&str]) -> bool {
    rows.contains_key(&key.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>())
}

/// Every row names what is there, and everything is named by what will let it go.
pub(super) async fn rows_and_files_agree(data: &Path) -> Result<()> {
    let disk = Disk::open(data).await?;
    let blobs = disk.rows(Space::Blob).await?;
    let (link_rows, mrefs) = (disk.rows(Space::Link).await?, disk.rows(Space::Mref).await?);
    let manifests = disk.rows(Space::Manifest).await?;
    for key in link_rows.keys() {
        ensure!(has(&blobs, &[&key[0]]), "link {key:?} has no blob");
    }
    for key in blobs.keys() {
        let linked = link_rows.range(key.clone()..).next().is_some_and(|(link, _)| link[0] == key[0]);
        ensure!(linked, "blob {key:?} has no link and would never be collected");
    }
    for key in mrefs.keys() {
        ensure!(has(&link_rows, &[&key[0], &key[1]]), "reference {key:?} has no link");
        ensure!(
            has(&manifests, &[&key[1], &key[2]]),
            "reference {key:?} has no manifest and would hold for ever"
        );
    }
    for key in manifests.keys() {
        let (repository, digest) = (&key[0], &key[1]);
        // One that came along with another, as a signature does, is held by that, or collected with its link.
        ensure!(
            has(&link_rows, &[digest, repository]),
            "manifest {key:?} has no link and would never be collected"
        );
        let blob = Blob::decode(blobs.get(&vec![digest.clone()]).context("a manifest without bytes")?)?;
        let Stored::Inline(bytes) = blob.stored else { anyhow::bail!("manifest {key:?} is in a file") };
        ensure!(digest.parse::<Digest>()?.matches(&bytes), "manifest {key:?} has other bytes");
        let value: Value = serde_json::from_slice(&bytes)?;
        let layers = value["layers"].as_array().into_iter().flatten();
        for needed in layers.chain([&value["config"]]).filter_map(|needed| needed["digest"].as_str()) {
            ensure!(has(&mrefs, &[needed, repository, digest]), "manifest {key:?} does not hold `{needed}`");
        }
    }
    for (key, row) in disk.rows(Space::Tag).await? {
        let value: Value = serde_json::from_slice(&row.val)?;
        let digest = value["digest"].as_str().unwrap_or_default();
        ensure!(has(&manifests, &[&key[0], digest]), "tag {key:?} points to nothing");
        ensure!(has(&mrefs, &[digest, &key[0], digest]), "tag {key:?} points to what nothing keeps");
    }
    quotas_are_exact(&disk, &blobs, &link_rows).await?;
    let files = disk.files().await?;
    for (id, size) in disk.named().await? {
        ensure!(files.get(&id) == Some(&size), "file `{id}` of {size} bytes is {:?}", files.get(&id));
    }
    Ok(())
}

async fn quotas_are_exact(disk: &Disk, blobs: &Rows, link_rows: &Rows) -> Result<()> {
    let mut links: BTreeMap<(String, String), u64> = BTreeMap::new();
    for key in link_rows.keys() {
        let namespace = key[1].split('/').next().unwrap_or_default();
        *links.entry((namespace.to_owned(), key[0].clone())).or_default() += 1;
    }
    let counted = disk.rows(Space::Edge).await?;
    let mut used: BTreeMap<String, u64> = BTreeMap::new();
    for ((namespace, digest), count) in &links {
        let row = counted.get(&vec!["nsref".to_owned(), namespace.clone(), digest.clone()]);
        let refs = row.and_then(|row| wharf_store::Refs::decode(&row.val)).map(|refs| refs.n);
        ensure!(refs == Some(*count), "`{digest}` has {count} links in `{namespace}`, {refs:?} are counted");
        let blob = Blob::decode(blobs.get(&vec![digest.clone()]).context("a link without a blob")?)?;
        *used.entry(namespace.clone()).or_default() += blob.size;
    }
    ensure!(
        counted.len() == links.len(),
        "{} references are counted, {} are there",
        counted.len(),
        links.len()
    );
    for (key, row) in disk.rows(Space::Counter).await? {
        if key[0] == "quota" {
            let there = used.get(&key[1]).copied().unwrap_or(0);
            ensure!(
                row.counter()?.n == there,
                "`{}` holds {there} bytes, {} are counted",
                key[1],
                row.counter()?.n
            );
        }
    }
    Ok(())
}

/// What a decision names is kept, what was promoted has its decision, and no job is left but the server's own.
pub(super) async fn decisions_stand_on_what_is_there(data: &Path) -> Result<()> {
    let disk = Disk::open(data).await?;
    let (decisions, facts) = (disk.rows(Space::Decision).await?, disk.rows(Space::Facts).await?);
    for (key, row) in &decisions {
        let decision: Value = serde_json::from_slice(&row.val)?;
        let policies = decision["policies"].as_array().context("no policies")?;
        let named =
            policies.iter().flat_map(|judged| [("trace", &judged["trace"]), ("config", &judged["config"])]);
        for (kind, digest) in named.chain([("facts", &decision["facts"])]) {
            let is_kept = digest.as_str().is_none_or(|digest| has(&facts, &[kind, digest]));
            ensure!(is_kept, "decision {key:?} stands on {kind} {digest}, which is gone");
        }
    }
    for (key, row) in disk.rows(Space::Promotion).await? {
        let promotion: Value = serde_json::from_slice(&row.val)?;
        for target in promotion["targets"].as_array().context("no targets")? {
            let number = wharf_store::number(target["decision"].as_u64().context("no decision")?);
            ensure!(has(&decisions, &[&key[1], &key[2], &number]), "promotion {key:?} has no decision");
        }
    }
    for key in disk.rows(Space::Job).await?.keys() {
        ensure!(key[0] == "live" && key[1] == "housekeeping", "job {key:?} was left");
    }
    for (key, row) in disk.rows(Space::Counter).await? {
        let is_own = key[0] != "jobs" || key[1] == "housekeeping";
        ensure!(is_own || row.counter()?.n == 0, "{key:?} counts jobs that are not there");
    }
    Ok(())
}

/// Two grace periods later no file is left that no row names.
pub(super) async fn collection_leaves_only_what_is_named(data: &Path) -> Result<()> {
    let disk = Disk::open(data).await?;
    while links::reap(&disk.store, &disk.blobs).await? > 0 {}
    let later_ms = disk.store.now_ms() + 2 * FRESH_MS;
    for digit in 0..16 {
        links::orphans(&disk.store, &disk.blobs, digit, later_ms, FRESH_MS).await?;
    }
    let (files, named) = (disk.files().await?, disk.named().await?);
    let left: BTreeSet<&String> = files.keys().filter(|id| !named.contains_key(*id)).collect();
    ensure!(left.is_empty(), "{} files would never be collected: {left:?}", left.len());
    let uploads = std::fs::read_dir(data.join("uploads"))?.count();
    ensure!(uploads == 0, "{uploads} states of uploads would never be collected");
    Ok(())
}
