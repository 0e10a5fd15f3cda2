//! How far an upload is: one small file beside the blob files, never synced.
//!
//! One line of JSON, then the bytes themselves while they are few enough to stay out of a blob file.
//!
//! Invariant: a saved hash state is believed only within one boot of the machine. After a power loss the blob file
//! may hold less than the state says, or zeros; then the file itself is read and hashed again, so a digest is
//! always the digest of what is on the disk.

use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};

use super::hash::Hashes;
use super::{BlobError, BlobId, Blobs, failed, missing};

/// No sidecar is longer: owner, states and [`INLINE_MAX`](super::INLINE_MAX) bytes fit well below it.
const MAX_SIDECAR_BYTES: u64 = 64 * 1024;

/// The ending of a state's name while it is written.
pub(super) const NEXT: &str = ".next";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sidecar {
    pub(super) owner: String,
    /// Bytes received.
    pub(super) offset: u64,
    /// Whether they are in the blob file; else they follow the first line.
    pub(super) in_file: bool,
    sha256: String,
    sha512: Option<String>,
    boot: String,
    #[serde(skip)]
    pub(super) bytes: Vec<u8>,
}

impl Sidecar {
    pub(super) fn new(owner: &str, offset: u64, hashes: &Hashes, bytes: Option<&[u8]>) -> Sidecar {
        let (sha256, sha512) = hashes.save();
        let (owner, bytes, in_file) =
            (owner.to_string(), bytes.unwrap_or_default().to_vec(), bytes.is_none());
        Sidecar { owner, offset, in_file, sha256, sha512, boot: String::new(), bytes }
    }

    /// Replaces the upload's state; a crash of the process leaves the old one or the new one.
    pub(super) fn write(mut self, blobs: &Blobs, id: &BlobId) -> Result<(), BlobError> {
        self.boot.clone_from(&blobs.0.boot);
        let mut out = serde_json::to_vec(&self).map_err(|e| failed("write", id.as_str())(e.into()))?;
        out.push(b'\n');
        out.extend_from_slice(&self.bytes);
        let next = format!("{id}{NEXT}");
        let write = || -> io::Result<()> {
            blobs.0.uploads.create(&next)?.write_all(&out)?;
            blobs.0.uploads.rename(&next, &blobs.0.uploads, id.as_str())
        };
        write().map_err(failed("write", format!("uploads/{id}")))
    }

    pub(super) fn read(blobs: &Blobs, id: &BlobId) -> Result<Sidecar, BlobError> {
        let file = blobs.0.uploads.open(id.as_str()).map_err(|e| missing(e, "open", id))?;
        let mut text = Vec::new();
        file.take(MAX_SIDECAR_BYTES)
            .read_to_end(&mut text)
            .map_err(failed("read", format!("uploads/{id}")))?;
        // What a power loss left half-written is no upload any more; the client starts again.
        let unknown = || BlobError::NotFound(id.clone());
        let end = text.iter().position(|b| *b == b'\n').ok_or_else(unknown)?;
        let mut sidecar: Sidecar = serde_json::from_slice(&text[..end]).map_err(|_| unknown())?;
        sidecar.bytes = text.split_off(end + 1);
        if !sidecar.in_file && sidecar.bytes.len() as u64 != sidecar.offset {
            return Err(unknown());
        }
        Ok(sidecar)
    }

    /// Bytes that are surely there.
    pub(super) fn trusted_offset(&self, blobs: &Blobs, id: &BlobId) -> Result<u64, BlobError> {
        if !self.in_file || self.boot == blobs.0.boot {
            return Ok(self.offset);
        }
        let len = match blobs.0.blobs.metadata(id.file()) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(failed("stat", id.file())(e)),
        };
        Ok(self.offset.min(len))
    }

    /// The running hashes over the first `offset` bytes: as saved, or of the file itself if those cannot be trusted.
    pub(super) fn hashes(&self, blobs: &Blobs, file: &mut impl io::Read, offset: u64) -> io::Result<Hashes> {
        if !self.in_file {
            let mut hashes = Hashes::new(self.sha512.is_some());
            hashes.update(&self.bytes);
            return Ok(hashes);
        }
        let saved = Hashes::restore(&self.sha256, self.sha512.as_deref());
        if let (Some(hashes), true) = (saved, self.boot == blobs.0.boot) {
            return Ok(hashes);
        }
        let mut hashes = Hashes::new(self.sha512.is_some());
        hash_file(&mut file.take(offset), &mut hashes)?;
        Ok(hashes)
    }
}

/// Hashes what is left to read.
pub(super) fn hash_file(file: &mut impl io::Read, hashes: &mut Hashes) -> io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => hashes.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Which boot of the machine this is; where the system does not say, every start counts as one.
pub(super) fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| format!("{:032x}", rand::random::<u128>()), |id| id.trim().to_string())
}
