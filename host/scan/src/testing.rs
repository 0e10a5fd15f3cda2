//! Small images for tests, made of the members that a test names.

use std::io::{Read, Write as _};

use wharf_oci::{Descriptor, Digest, MediaType};

use crate::{Image, Layer, Limits, Report, scan};

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A member: path and what it is.
pub(crate) enum Put<'a> {
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
    Directory(&'a str),
}

/// An archive of `members`, in that order.
pub(crate) fn tar(members: &[Put<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (path, kind, data): (_, _, &[u8]) = match member {
            Put::File(path, data) => (path, tar::EntryType::Regular, data),
            Put::Link(path, _) => (path, tar::EntryType::Symlink, &[]),
            Put::Hard(path, _) => (path, tar::EntryType::Link, &[]),
            Put::Directory(path) => (path, tar::EntryType::Directory, &[]),
        };
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        match member {
            Put::Link(_, target) | Put::Hard(_, target) => {
                builder.append_link(&mut header, path, target).unwrap();
            }
            _ => builder.append_data(&mut header, path, data).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(crate) fn descriptor(stored: &[u8]) -> Descriptor {
    Descriptor::new(TAR.parse::<MediaType>().unwrap(), Digest::sha256(stored), stored.len() as u64)
}

pub(crate) fn layer(stored: &[u8]) -> Layer<'_> {
    Layer {
        descriptor: descriptor(stored),
        open: Some(Box::new(move || Ok(Box::new(stored) as Box<dyn Read + Send>))),
    }
}

pub(crate) fn config(archives: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = archives.iter().map(|a| Digest::sha256(a)).collect();
    serde_json::to_vec(&serde_json::json!({
        "os": "linux", "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))
    .unwrap()
}

/// Scans plain archives as one image.
pub(crate) fn scan_tars(archives: &[&[u8]]) -> Report {
    scan_with(archives, &Limits::default())
}

pub(crate) fn scan_with(archives: &[&[u8]], limits: &Limits) -> Report {
    let config = config(archives);
    let image = Image { config: &config, layers: archives.iter().map(|a| layer(a)).collect() };
    scan(image, limits, &mut |_| {}).unwrap()
}

pub(crate) const OS_RELEASE: &[u8] =
    b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";

/// A dpkg stanza.
pub(crate) fn stanza(name: &str, version: &str) -> String {
    format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
}
