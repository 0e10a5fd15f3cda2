//! An image in one tar file (`docker save`, `skopeo copy … oci-archive:`): its members, found by one pass over the headers.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::TargetError;
use crate::file;
use crate::layer::path;
use crate::layer::tar::{Kind, Tar, TarError};

/// An image has a few members for each layer.
const MEMBERS: usize = 100_000;
/// Bytes of a member's name.
pub(super) const NAME_BYTES: u32 = 1024;
/// A header, and in most archives the one of the next member's long name.
const HEADER_BUFFER_BYTES: usize = 4096;
const LINK_HOPS: u32 = 8;

/// Names and places of an archive's files.
#[derive(Debug)]
pub(super) struct Members {
    path: PathBuf,
    members: HashMap<String, Member>,
}

#[derive(Debug)]
enum Member {
    File {
        at: u64,
        bytes: u64,
    },
    /// Old `docker save` writes equal layers as links.
    Link(String),
}

impl Members {
    /// Reads the headers of the archive at `path`, and no contents.
    pub(super) fn index(path: &Path) -> Result<Self, TargetError> {
        let io = |cause| TargetError::Io { path: path.to_owned(), cause };
        let mut file = file::open(path).map_err(io)?;
        let mut head = [0; 4];
        let n = file.read(&mut head).map_err(io)?;
        if head[..n].starts_with(&[0x1f, 0x8b]) || head[..n].starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(TargetError::Unknown { path: path.to_owned(), hint: "decompress it first" });
        }
        let length = file.metadata().map_err(io)?.len();
        let mut members = HashMap::new();
        let mut at = 0;
        loop {
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            let mut tar = Tar::new(
                BufReader::with_capacity(HEADER_BUFFER_BYTES, &mut file),
                NAME_BYTES,
                NAME_BYTES * 16,
            );
            let entry = match tar.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(TarError::Io(source)) => return Err(io(source)),
                Err(_) if at == 0 => {
                    let hint = "an archive is what `docker save` or `skopeo copy … oci-archive:` writes";
                    return Err(TargetError::Unknown { path: path.to_owned(), hint });
                }
                Err(error) => return Err(TargetError::Archive(error.to_string())),
            };
            let body = at + tar.position();
            let end = entry.size.checked_next_multiple_of(512).and_then(|bytes| body.checked_add(bytes));
            let Some(end) = end.filter(|_| entry.size <= length.saturating_sub(body)) else {
                return Err(TargetError::Archive("it ends inside a file".to_owned()));
            };
            at = end;
            let Some(name) = path::normal(&entry.path, NAME_BYTES) else { continue };
            let member = match entry.kind {
                Kind::File => Member::File { at: body, bytes: entry.size },
                Kind::Symlink => Member::Link(path::join(&name, &entry.link)),
                Kind::HardLink => Member::Link(path::join("", &entry.link)),
                _ => continue,
            };
            members.insert(name, member);
            if members.len() > MEMBERS {
                return Err(TargetError::Archive(format!("it has more than {MEMBERS} members")));
            }
        }
        Ok(Self { path: path.to_owned(), members })
    }

    /// A member's contents and their size in bytes.
    pub(super) fn open(&self, name: &str) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let mut name = name;
        for _ in 0..LINK_HOPS {
            match self.members.get(name) {
                Some(Member::File { at, bytes }) => {
                    let mut file = file::open(&self.path)?;
                    file.seek(SeekFrom::Start(*at))?;
                    return Ok((Box::new(file.take(*bytes)), *bytes));
                }
                Some(Member::Link(target)) => name = target,
                None => break,
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}
