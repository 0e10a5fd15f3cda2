//! What each fuzz target does with its bytes. `tests/src/fuzz.rs` does the same on stable with what is in `seeds/`.
//!
//! Invariant: a target panics only where the code under it does, or where what it promises of its results does not hold.

use std::cmp::Ordering;
use std::fmt::{Debug, Display};
use std::io::Cursor;
use std::str::FromStr;
use std::sync::LazyLock;

use wharf_oci::{Descriptor, Digest, Manifest, MediaType, Platform, Reference, RepoName, RepoPattern, Tag};
use wharf_scan::vuln::version::Scheme;
use wharf_scan::vuln::{Db, Import, match_report};
use wharf_scan::{Image, Layer, Limits, Open, Report, cyclonedx, scan};
use wharf_store::links::Blob;
use wharf_store::{BlobId, Counter, Key, KeyRange, Refs, Rev, Row, Space, key, number, parse_number};

/// A target: what is done with any bytes.
pub type Target = fn(&[u8]);

/// Every target but `plugin`, by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("names", names),
    ("manifest", manifest),
    ("layer", layer),
    ("packages", packages),
    ("versions", versions),
    ("advisories", advisories),
    ("rows", rows),
];

/// Names that clients send, one a line: each reads back as what it was read from, and what a pattern covers it matches.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines {
        reads_back::<RepoName>(line);
        reads_back::<Tag>(line);
        reads_back::<Digest>(line);
        reads_back::<Reference>(line);
        reads_back::<MediaType>(line);
        reads_back::<Platform>(line);
        reads_back::<RepoPattern>(line);
    }
    let [wide, narrow, repository] = lines[..] else { return };
    let (Ok(wide), Ok(narrow)) = (wide.parse::<RepoPattern>(), narrow.parse::<RepoPattern>()) else { return };
    if let Ok(repository) = repository.parse::<RepoName>()
        && wide.covers(&narrow)
        && narrow.matches(&repository)
    {
        assert!(wide.matches(&repository), "{wide:?} covers {narrow:?}, which matches {repository:?}");
    }
}

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = T::from_str(text) {
        let again = T::from_str(&read.to_string()).ok();
        assert_eq!(again.as_ref(), Some(&read), "{text:?}");
    }
}

/// A manifest as a client pushes it.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(bytes, None) {
        let _ = (manifest.blobs().count(), manifest.effective_artifact_type(), manifest.is_container_image());
    }
}

/// Small enough that a bomb ends soon.
fn limits() -> Limits {
    Limits { layer_bytes: 4 << 20, image_bytes: 8 << 20, file_bytes: 1 << 20, ..Limits::default() }
}

/// Scans an image of these layers, whose report can be written down and compared with no data.
fn scanned(layers: &[(&str, &[u8])]) -> Option<Report> {
    let layer = |(media_type, bytes): &(&str, &'_ [u8])| {
        let descriptor =
            Descriptor::new(media_type.parse::<MediaType>().ok()?, Digest::sha256(bytes), bytes.len() as u64);
        let bytes = bytes.to_vec();
        let open: Open<'static> = Box::new(|| Ok(Box::new(Cursor::new(bytes))));
        Some(Layer { descriptor, open: Some(open) })
    };
    let image = Image { config: b"{}", layers: layers.iter().map(layer).collect::<Option<_>>()? };
    let report = scan(image, &limits(), &mut |_| ()).ok()?;
    assert!(report.to_json().is_ok());
    let _ = cyclonedx(&report, None);
    Some(report)
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer as it is stored; the first byte tells its compression.
pub fn layer(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let compression = ["", "+gzip", "+zstd"][usize::from(*which) % 3];
    scanned(&[(&format!("{TAR}{compression}"), bytes)]);
}

const STATUS: &str = "var/lib/dpkg/status";

fn tar(files: &[(&str, &[u8])]) -> Option<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).ok()?;
    }
    archive.into_inner().ok()
}

/// What distributions keep of their packages. The first byte tells the file.
pub fn packages(bytes: &[u8]) {
    const FILES: [&str; 6] = [
        STATUS,
        "var/lib/dpkg/status.d/tzdata",
        "lib/apk/db/installed",
        "usr/lib/os-release",
        "etc/os-release",
        "usr/share/doc/tzdata/copyright",
    ];
    let Some((which, bytes)) = bytes.split_first() else { return };
    // What a copyright file says shows at a package alone.
    let tzdata = b"Package: tzdata\nStatus: install ok installed\nVersion: 2025b-4\nArchitecture: all\n";
    if let Some(layer) = tar(&[(STATUS, tzdata), (FILES[usize::from(*which) % FILES.len()], bytes)]) {
        scanned(&[(TAR, &layer)]);
    }
}

/// Three versions, one a line: their order is one.
pub fn versions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let [a, b, c] = text.lines().collect::<Vec<_>>()[..] else { return };
    for scheme in [Scheme::Debian, Scheme::Alpine] {
        let compare = |a, b| scheme.compare(a, b);
        assert_eq!(compare(a, a), Ordering::Equal, "{scheme:?}");
        assert_eq!(compare(a, b), compare(b, a).reverse(), "{scheme:?}");
        if compare(a, b) == compare(b, c) {
            assert_eq!(compare(a, c), compare(a, b), "{scheme:?}");
        }
        if compare(a, b) == Ordering::Equal {
            assert_eq!(compare(a, c), compare(b, c), "{scheme:?}");
        }
    }
}

/// A file of vulnerability data: what is written of it is read, and compared with an image; and a database that somebody
/// else wrote.
pub fn advisories(bytes: &[u8]) {
    static IMAGE: LazyLock<Option<Report>> = LazyLock::new(|| {
        let status =
            b"Package: openssl\nStatus: install ok installed\nVersion: 3.0.1-1\nArchitecture: amd64\n";
        scanned(&[(TAR, &tar(&[("etc/os-release", b"ID=debian\nVERSION_ID=12\n"), (STATUS, status)])?)])
    });
    let image = IMAGE.as_ref().expect("it is well made");
    let mut import = Import::new();
    if import.add("fuzz", Cursor::new(bytes)).is_ok()
        && let Ok(written) = import.finish()
    {
        let matched = Db::from_bytes(written).and_then(|db| match_report(image, &db));
        assert!(matched.is_ok(), "what was written is read: {matched:?}");
    }
    if let Ok(db) = Db::from_bytes(bytes.to_vec()) {
        let _ = (db.version(), db.coverage(), match_report(image, &db));
    }
}

/// Keys and values of the store, as a damaged disk or another program leaves them.
pub fn rows(bytes: &[u8]) {
    let row = Row { key: Key::new(Space::Blob, "k"), rev: Rev(1), until_ms: 0, val: bytes.to_vec().into() };
    if let Ok(blob) = Blob::decode(&row) {
        let again = blob.encode().map(|val| Blob::decode(&Row { val, ..row.clone() }));
        assert_eq!(again, Ok(Ok(blob)));
    }
    if let Some(counter) = Counter::decode(bytes) {
        assert_eq!(counter.encode(), bytes);
    }
    if let Some(refs) = Refs::decode(bytes) {
        assert_eq!(refs.encode(), bytes);
    }
    let _ = Key::new(Space::Tag, bytes.to_vec()).parts();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(n) = parse_number(text) {
        assert_eq!(number(n), text);
    }
    if let Some(id) = BlobId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    // Any text is a part of its own, in an order that its neighbours cannot disturb.
    let parts: Vec<&str> = text.split('\n').collect();
    let whole = key(Space::Tag, &parts);
    assert_eq!(whole.parts(), parts);
    let under = KeyRange::prefix(Space::Tag, &parts[..1]);
    assert_eq!(under.contains(&whole), parts.len() > 1);
    if let [a, b] = parts[..] {
        assert_eq!(key(Space::Tag, &[a]).bytes.cmp(&key(Space::Tag, &[b]).bytes), a.cmp(b));
    }
}
