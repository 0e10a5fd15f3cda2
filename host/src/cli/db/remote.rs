//! The server's data.

use std::path::Path;

use futures_util::TryStreamExt as _;
use http::Method;
use serde::Serialize;
use tokio_util::io::ReaderStream;
use wharf_scan::vuln::Release;

use super::{Files, covered};
use crate::api::admin::{DatabaseEntry, ImportEntry, Status};
use crate::cli::client::{Client, Remote};
use crate::cli::exit::Stop;
use crate::cli::output::{Table, ago, bytes, count, note, now_ms, part};
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
pub(super) async fn import(files: &Files) -> anyhow::Result<()> {
    let client = files.remote.client()?;
    // A wrong login is told before anything is sent: what is sent may be hundreds of megabytes.
    client.get::<Status>(&["status"]).await?;
    for file in &files.files {
        send(&client, files, file).await?;
    }
    Ok(())
}

/// Shows what data the server has.
///
/// # Errors
/// As the server says.
pub(super) async fn status(remote: &Remote) -> anyhow::Result<()> {
    let data: DatabaseEntry = remote.client()?.get(&["vulnerability-data"]).await?;
    remote.output.show(&data, |data| table(data, now_ms()))
}

async fn send(client: &Client, files: &Files, path: &Path) -> anyhow::Result<()> {
    let (output, source) = (files.remote.output, &files.source(path));
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
    let done: ImportEntry = client.receive(request).await?;
    for line in &done.described {
        note(format!("left out: {line}"));
    }
    output.show(&done, |done| {
        let mut parts = vec![format!("{} read, {} kept", count(done.records, "record"), done.kept)];
        let others: u64 = done.others.values().sum();
        for (n, what) in [
            (
                done.undecided,
                "of them without versions that can be compared (their packages may be affected)",
            ),
            (done.withdrawn, "withdrawn"),
            (done.malformed, "malformed"),
            (others, "of ecosystems that are not matched"),
            (done.exploited, "known to be exploited"),
        ] {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        format!("imported `{source}`: {}\n", parts.join(", "))
    })
}

fn table(data: &DatabaseEntry, now_ms: u64) -> String {
    let empty = "no vulnerability data: nothing is known of any image; hint: `wharf db import FILE`";
    let mut sources = Table::new(&["SOURCE", ">RECORDS", "NEWEST CHANGE"], empty);
    for source in &data.sources {
        sources.row([source.source.clone(), source.records.to_string(), ago(source.as_of_ms, now_ms)]);
    }
    let mut releases = super::releases();
    for (name, release) in &data.releases {
        let newest = ago(release.as_of_ms, now_ms);
        releases.row([
            name.clone(),
            release.records.to_string(),
            newest,
            covered(release.covered, release.undecided),
        ]);
    }
    match data.sources.is_empty() {
        true => sources.text(),
        false => format!("{}\n{}", sources.text(), releases.text()),
    }
}
