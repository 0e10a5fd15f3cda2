//! Import and matching on small records of the project's own.

mod import;
mod matching;

use std::io::{Cursor, Write as _};

use super::*;
use crate::report::Report;
use crate::testing::*;

fn record(id: &str, rest: serde_json::Value) -> serde_json::Value {
    let mut record = serde_json::json!({ "id": id, "modified": "2026-01-02T03:04:05Z" });
    record.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    record
}

fn affected(ecosystem: &str, name: &str, events: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "package": { "ecosystem": ecosystem, "name": name },
        "ranges": [{ "type": "ECOSYSTEM", "events": events }] })
}

fn fixed(ecosystem: &str, name: &str, version: &str) -> serde_json::Value {
    affected(ecosystem, name, serde_json::json!([{ "introduced": "0" }, { "fixed": version }]))
}

/// Of records that are all there is to know about the releases they name.
fn db(records: &[serde_json::Value]) -> Db {
    let mut import = Import::new();
    let text = serde_json::to_string(records).unwrap();
    import.add("osv", Cursor::new(&text)).unwrap();
    for release in ["Debian:12", "Debian:11", "Alpine:v3.20"].iter().filter(|name| text.contains(**name)) {
        import.covers("osv", &release.parse().unwrap()).unwrap();
    }
    assert_eq!(import.stats().described, [""; 0]);
    Db::from_bytes(import.finish().unwrap()).unwrap()
}

/// A zip file of records, as OSV publishes them; every second one is not compressed.
fn zipped(records: impl IntoIterator<Item = serde_json::Value>) -> Vec<u8> {
    use zip::CompressionMethod::{Deflated, Stored};
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (at, (record, method)) in records.into_iter().zip([Deflated, Stored].into_iter().cycle()).enumerate()
    {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("{at}.json"), options).unwrap();
        zip.write_all(record.to_string().as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A whole export with `n` records of a release.
fn export(release: &str, n: usize) -> impl Iterator<Item = serde_json::Value> {
    (0..n).map(move |i| {
        let affected = fixed(release, &format!("p{i}"), "2");
        record(&format!("CVE-2026-{release}-{i}"), serde_json::json!({ "affected": [affected] }))
    })
}

fn debian(packages: &[(&str, &str)]) -> Report {
    let status: String = packages.iter().map(|(n, v)| stanza(n, v)).collect();
    let image =
        tar(&[Put::File("etc/os-release", OS_RELEASE), Put::File("var/lib/dpkg/status", status.as_bytes())]);
    scan_tars(&[&image])
}

fn ids(findings: &Findings) -> Vec<&str> {
    findings.findings.iter().map(|f| f.id.as_str()).collect()
}
