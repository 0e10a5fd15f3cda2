//! The server's data.

use std::path::Path;

use futures_util::TryStreamExt as _;
use http::Method;
use serde::Serialize;
use tokio_util::io::ReaderStream;
use wharf_scan::vuln::{Release, SourceName};

use super::{Files, show_import, show_status};
use crate::api::admin::{DatabaseEntry, ImportEntry, Status};
use crate::cli::client::{Client, Remote};
use crate::cli::exit::Stop;
use crate::cli::output::{bytes, note, part};
use crate::cli::progress::Progress;

/// Bytes of the file that are read and sent at once.
const CHUNK_BYTES: usize = 256 * 1024;

#[derive(Serialize)]
struct Query<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    covers: Option<String>,
    force: bool,
}

/// Sends files to the server, one after the other.
///
/// # Errors
/// Where a file cannot be read, or as the server says.
pub(super) async fn import(files: &Files, sources: &[SourceName]) -> anyhow::Result<()> {
    let client = files.remote.client()?;
    // A wrong login is told before anything is sent: what is sent may be hundreds of megabytes.
    client.get::<Status>(&["status"]).await?;
    let (mut imported, mut all, mut ended) = (0, None, Ok(()));
    for (file, source) in files.files.iter().zip(sources) {
        match send(&client, files, file, source.as_str()).await {
            Ok(done) => all = Some(joined(all, done)),
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
        imported += 1;
    }
    // What was imported stays so, whatever came after it.
    if let Some(done) = all {
        show_import(files.remote.output, &sources[..imported], &done)?;
    }
    ended
}

/// Shows what data the server has.
///
/// # Errors
/// As the server says.
pub(super) async fn status(remote: &Remote) -> anyhow::Result<()> {
    let data: DatabaseEntry = remote.client()?.get(&["vulnerability-data"]).await?;
    show_status(remote.output, &data)
}

async fn send(client: &Client, files: &Files, path: &Path, source: &str) -> anyhow::Result<ImportEntry> {
    let covers: Vec<&str> = files.covers.iter().map(Release::as_str).collect();
    let covers = (!covers.is_empty()).then(|| covers.join(","));
    let wrong = |error: std::io::Error| Stop::usage(format!("cannot read `{}`: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(wrong)?;
    let about = file.metadata().await.map_err(wrong)?;
    if !about.is_file() {
        // Its length is not known before its end, and a read that failed would look like a server that is gone.
        return Err(Stop::usage(format!("`{}` is not a regular file", path.display())).into());
    }
    let size = about.len();
    note(format!("sending `{}` ({}) as source `{source}` …", path.display(), bytes(size)));
    let (mut line, mut sent) = (Progress::new(), 0);
    let stream = ReaderStream::with_capacity(file, CHUNK_BYTES).inspect_ok(move |chunk| {
        sent += chunk.len() as u64;
        line.show(|| format!("sent {}", part(sent, size)));
    });
    let body = reqwest::Body::wrap_stream(stream);
    let request = client
        .request(Method::POST, &["vulnerability-data"])
        .query(&Query { source, covers, force: files.force })
        .header(http::header::CONTENT_LENGTH, size)
        .header(http::header::CONTENT_TYPE, "application/octet-stream")
        .body(body);
    Ok(client.receive(request).await?)
}

/// What all imports so far and one more did.
fn joined(all: Option<ImportEntry>, more: ImportEntry) -> ImportEntry {
    let Some(mut all) = all else { return more };
    let ImportEntry {
        version,
        records,
        kept,
        undecided,
        withdrawn,
        malformed,
        described,
        others,
        exploited,
        removed,
    } = more;
    all.version = version;
    all.records += records;
    all.kept += kept;
    all.undecided += undecided;
    all.withdrawn += withdrawn;
    all.malformed += malformed;
    all.described.extend(described);
    all.exploited += exploited;
    all.removed.extend(removed);
    for (ecosystem, records) in others {
        *all.others.entry(ecosystem).or_default() += records;
    }
    all
}
