//! The scrub: blobs are read again a portion a day, so that a client is not the first to find what the disk has damaged.
//!
//! A damaged blob is served to nobody; the next push of it replaces the file. Each page leaves its place, where the next run
//! goes on; behind the last blob it begins again with the first.

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use wharf_store::links::{self, CollectError};
use wharf_store::{Key, Space, StoreError, key};

use crate::App;

/// Bytes that one run reads, or a little more: some ten minutes of a plain disk.
const BYTES_A_RUN: u64 = 64 << 30;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrub {
    /// Blobs read.
    pub blobs: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Digests of what is damaged, as far as that was not known.
    pub damaged: Vec<String>,
}

/// Where the next run goes on.
#[derive(Debug, Serialize, Deserialize)]
struct PlaceRow {
    /// The last blob that was read; none: from the first on.
    after: Option<String>,
}

fn place_key() -> Key {
    key(Space::Cursor, &["scrub"])
}

/// Reads the next portion.
///
/// # Errors
/// Where the store or the disk fails otherwise than by damage; the next run goes on where this one was.
pub async fn run(app: &App, stop: &CancellationToken) -> Result<Scrub, CollectError> {
    let mut done = Scrub::default();
    let mut after = place(app).await?;
    while done.bytes < BYTES_A_RUN && !stop.is_cancelled() {
        let page = links::scrub_page(&app.store, &app.blobs, after.as_ref()).await?;
        done.blobs += page.seen;
        done.bytes += page.bytes;
        metrics::counter!("wharf_scrub_damaged_total").increment(page.damaged.len() as u64);
        done.damaged.extend(page.damaged);
        after = page.next;
        leave(app, after.as_ref()).await?;
        if after.is_none() {
            break;
        }
    }
    Ok(done)
}

async fn place(app: &App) -> Result<Option<Key>, StoreError> {
    let Some(row) = app.store.get(&place_key()).await? else { return Ok(None) };
    let place: PlaceRow = row.value()?;
    Ok(place.after.map(|digest| links::blob_key(&digest)))
}

async fn leave(app: &App, after: Option<&Key>) -> Result<(), StoreError> {
    let place = PlaceRow { after: after.and_then(|key| key.part(0)) };
    let place = &place;
    let store = app.store.background();
    store.act(|mut tx| async move { tx.put_value(&place_key(), place) }).await.map(drop)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wharf_oci::{Digest, RepoName};
    use wharf_store::Stored;

    use super::*;
    use crate::access::Principal;
    use crate::config::{Config, LISTEN};
    use crate::flow::upload::{self, Chunk};
    use crate::registry::blob;

    #[tokio::test]
    async fn a_run_goes_on_where_the_last_one_was_and_begins_again() {
        let data = tempfile::tempdir().unwrap();
        let app = App::open(Config::new(data.path(), LISTEN)).await.unwrap();
        let name: RepoName = "dev/app".parse().unwrap();
        let mut digests = Vec::new();
        for fill in 0..3u8 {
            let bytes = Bytes::from(vec![fill; 10_000]);
            let digest = Digest::sha256(&bytes);
            let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes)]);
            upload::whole(
                &app,
                &Principal::system(),
                &name,
                &digest,
                Chunk { body, range: None, bytes: None },
            )
            .await
            .unwrap();
            digests.push(digest);
        }
        digests.sort();
        let stop = CancellationToken::new();
        let sound = Scrub { blobs: 3, bytes: 30_000, damaged: Vec::new() };
        assert_eq!(run(&app, &stop).await.unwrap(), sound);

        let last = &digests[2];
        let found = blob::find(&app.store, &name, last).await.unwrap().unwrap();
        let Stored::File(id) = found.stored else { panic!("it is in a file") };
        let file = data.path().join("blobs").join(&id.as_str()[..2]).join(id.as_str());
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, vec![9; 10_000]).unwrap();
        leave(&app, Some(&links::blob_key(digests[1].as_str()))).await.unwrap();
        let done = run(&app, &stop).await.unwrap();
        assert_eq!((done.blobs, done.damaged), (1, vec![last.to_string()]), "the first two were read before");
        assert_eq!(blob::find(&app.store, &name, last).await.unwrap(), None);
        assert_eq!(run(&app, &stop).await.unwrap().blobs, 2, "what is known to be damaged is not read");

        stop.cancel();
        assert_eq!(run(&app, &stop).await.unwrap(), Scrub::default());
    }
}
