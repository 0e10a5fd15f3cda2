//! A tar reader for archives that nobody vouches for: ustar, GNU and pax, in one forward pass.
//!
//! Own code because every kept crate reads a GNU long name or a pax header of whatever length it declares into memory. What
//! an entry means follows Go's `archive/tar`, which is what extracts layers in docker, containerd and podman: else an
//! archive could show the scanner one set of files and the runtime another.
//!
//! Invariant: memory is bounded by `path_bytes` and `header_bytes`, whatever a header says.
//! Invariant: an oversized header costs its own entry only; a damaged one ends the archive, since nothing after it is aligned.

use std::io::{self, Read};

const BLOCK: u64 = 512;
/// Contents that nobody reads are passed over in pieces of this size.
const SKIP_BYTES: usize = 128 << 10;
/// Longest digits in a pax record's length field: no record is longer than a header may be.
const PAX_LENGTH_DIGITS: usize = 10;

/// Why the archive cannot be read further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("the archive ends inside {0}")]
    Truncated(&'static str),
    #[error("header at byte {0} has a wrong checksum")]
    Checksum(u64),
    #[error("header at byte {at} has a bad `{field}`")]
    Field { at: u64, field: &'static str },
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// A GNU or pax sparse file: its stored bytes are not its contents.
    Sparse,
    HardLink,
    Symlink,
    Directory,
    Other,
}

/// One member of the archive; its contents are read through [`Tar::read`].
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) link: String,
    pub(crate) kind: Kind,
    /// Stored bytes that follow.
    pub(crate) size: u64,
    /// Set when a name or header was over its bound: `path` is then not to be trusted.
    pub(crate) oversized: bool,
}

/// Reads members one after the other from `R`.
#[derive(Debug)]
pub(crate) struct Tar<R> {
    inner: R,
    path_bytes: usize,
    header_bytes: usize,
    /// Bytes consumed so far.
    at: u64,
    /// Contents of the current entry not read yet, and the padding after them.
    left: u64,
    padding: u64,
    skip: Vec<u8>,
}

/// What `L`, `K` and `x` members say about the member that follows them. An empty name says nothing.
#[derive(Default)]
struct Pending {
    /// GNU's long names; they stand above pax's, in whatever order the two come.
    long_path: Vec<u8>,
    long_link: Vec<u8>,
    pax: Pax,
    oversized: bool,
}

/// The records of one pax header that matter here.
#[derive(Default)]
struct Pax {
    path: Vec<u8>,
    link: Vec<u8>,
    size: Option<u64>,
    sparse: Sparse,
}

/// What GNU tar writes of a sparse file.
#[derive(Default)]
struct Sparse {
    name: Vec<u8>,
    /// Major and minor number of the form; the first forms wrote none.
    version: [Vec<u8>; 2],
    has_map: bool,
}

impl Sparse {
    /// Whether the file is one: records of an unknown form change nothing, not the name either.
    fn is_one(&self) -> bool {
        match self.version.each_ref().map(Vec::as_slice) {
            [b"0", b"0" | b"1"] | [b"1", b"0"] => true,
            [b"", b""] => self.has_map,
            _ => false,
        }
    }
}

impl<R: Read> Tar<R> {
    pub(crate) fn new(inner: R, path_bytes: u32, header_bytes: u32) -> Self {
        Self {
            inner,
            path_bytes: path_bytes as usize,
            header_bytes: header_bytes as usize,
            at: 0,
            left: 0,
            padding: 0,
            skip: Vec::new(),
        }
    }

    /// Where the current entry's contents begin, in bytes from the start.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next member, or `None` at the end mark or the end of the stream.
    ///
    /// # Errors
    /// [`TarError`]; the archive cannot be read further.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut pending = Pending::default();
        loop {
            self.skip_rest()?;
            let at = self.at;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136]).ok_or(TarError::Field { at, field: "size" })?;
            self.set_body(size);
            match header[156] {
                b'L' => pending.long_path = self.long_name(&mut pending.oversized)?,
                b'K' => pending.long_link = self.long_name(&mut pending.oversized)?,
                // A second header takes the place of the first.
                b'x' => pending.pax = self.pax(&mut pending.oversized, at)?,
                // Go hands a global header to its caller, and no runtime applies it.
                b'g' => {}
                flag => return self.member(&header, flag, pending, at).map(Some),
            }
        }
    }

    /// Reads the current entry's contents; 0 at their end.
    ///
    /// # Errors
    /// [`TarError::Truncated`] or the stream's own error.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize, TarError> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        let n = read_retry(&mut self.inner, &mut buf[..want])?;
        if n == 0 {
            return Err(TarError::Truncated("a file"));
        }
        self.left -= n as u64;
        self.at += n as u64;
        Ok(n)
    }

    /// Contents of the current entry if they are at most `max` bytes.
    ///
    /// # Errors
    /// As [`Tar::read`].
    pub(crate) fn read_all(&mut self, max: usize) -> Result<Option<Vec<u8>>, TarError> {
        if self.left > max as u64 {
            return Ok(None);
        }
        // The size is a claim: let the buffer grow with what really comes.
        let mut out = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            let n = self.read(&mut chunk)?;
            if n == 0 {
                return Ok(Some(out));
            }
            out.extend_from_slice(&chunk[..n]);
        }
    }

    fn set_body(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut left = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        if left > 0 && self.skip.is_empty() {
            self.skip.resize(SKIP_BYTES, 0);
        }
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.skip.len());
            let n = read_retry(&mut self.inner, &mut self.skip[..want])?;
            if n == 0 {
                return Err(TarError::Truncated("a file"));
            }
            left -= n as u64;
            self.at += n as u64;
        }
        Ok(())
    }

    /// One header block; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; 512]>, TarError> {
        let at = self.at;
        let mut block = [0; 512];
        match self.block(&mut block)? {
            0 => return Ok(None),
            512 => {}
            _ => return Err(TarError::Truncated("a header")),
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let declared = number(&block[148..156]).ok_or(TarError::Checksum(at))?;
        // The sum is taken with spaces in its own place. Historic writers summed signed bytes.
        let mut summed = block;
        summed[148..156].fill(b' ');
        let unsigned: u64 = summed.iter().map(|b| u64::from(*b)).sum();
        let signed = || summed.iter().map(|b| i64::from(b.cast_signed())).sum();
        if declared != unsigned && i64::try_from(declared) != Ok(signed()) {
            return Err(TarError::Checksum(at));
        }
        Ok(Some(block))
    }

    fn block(&mut self, block: &mut [u8; 512]) -> Result<usize, TarError> {
        let mut have = 0;
        while have < block.len() {
            let n = read_retry(&mut self.inner, &mut block[have..])?;
            if n == 0 {
                break;
            }
            have += n;
        }
        self.at += have as u64;
        Ok(have)
    }

    fn long_name(&mut self, oversized: &mut bool) -> Result<Vec<u8>, TarError> {
        let Some(mut name) = self.read_all(self.path_bytes + 1)? else {
            *oversized = true;
            return Ok(Vec::new());
        };
        name.truncate(text(&name).len());
        Ok(name)
    }

    fn pax(&mut self, oversized: &mut bool, at: u64) -> Result<Pax, TarError> {
        let mut pax = Pax::default();
        let Some(data) = self.read_all(self.header_bytes)? else {
            *oversized = true;
            return Ok(pax);
        };
        let bad = TarError::Field { at, field: "pax record" };
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let Some((key, value, tail)) = pax_record(rest) else { return Err(bad) };
            rest = tail;
            match key {
                b"path" => pax.path = self.bounded(value, oversized),
                b"linkpath" => pax.link = self.bounded(value, oversized),
                b"size" if value.is_empty() => pax.size = None,
                b"size" => {
                    let text = std::str::from_utf8(value).ok();
                    let Some(size) = text.and_then(|t| t.parse().ok()) else { return Err(bad) };
                    pax.size = Some(size);
                }
                b"GNU.sparse.name" => pax.sparse.name = self.bounded(value, oversized),
                b"GNU.sparse.major" => pax.sparse.version[0] = self.bounded(value, oversized),
                b"GNU.sparse.minor" => pax.sparse.version[1] = self.bounded(value, oversized),
                b"GNU.sparse.map" | b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    pax.sparse.has_map |= !value.is_empty();
                }
                _ => {}
            }
        }
        Ok(pax)
    }

    fn bounded(&self, value: &[u8], oversized: &mut bool) -> Vec<u8> {
        *oversized |= value.len() > self.path_bytes;
        value[..value.len().min(self.path_bytes)].to_vec()
    }

    fn member(&mut self, header: &[u8; 512], flag: u8, pending: Pending, at: u64) -> Result<Entry, TarError> {
        let Pending { long_path, long_link, pax, oversized } = pending;
        let is_sparse = pax.sparse.is_one();
        let sparse_name = if is_sparse { pax.sparse.name } else { Vec::new() };
        let path = first([sparse_name, long_path, pax.path, header_path(header)]);
        let link = first([long_link, pax.link, text(&header[157..257]).to_vec()]);
        let mut kind = match flag {
            // Only the flag of version 7 archives says so by a slash, and Go leaves its contents in place.
            0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            b'S' => Kind::Sparse,
            _ => Kind::Other,
        };
        if kind == Kind::File && is_sparse {
            kind = Kind::Sparse;
        }
        if flag == b'S' && header[482] != 0 {
            self.sparse_extensions()?;
        }
        let size = pax.size.unwrap_or(self.left);
        // Links and directories have no contents even where their header claims a size.
        match kind {
            Kind::File | Kind::Sparse => self.set_body(size),
            Kind::Directory if flag == 0 => self.set_body(size),
            Kind::Other if matches!(flag, b'3' | b'4' | b'6') => self.set_body(0),
            Kind::Other => self.set_body(size),
            Kind::HardLink | Kind::Symlink | Kind::Directory => self.set_body(0),
        }
        if self.left > u64::MAX / 2 {
            return Err(TarError::Field { at, field: "size" });
        }
        Ok(Entry {
            path: String::from_utf8_lossy(&path).into_owned(),
            link: String::from_utf8_lossy(&link).into_owned(),
            kind,
            size: self.left,
            oversized,
        })
    }

    /// Blocks of a GNU sparse map that does not fit the header; the last has a zero at byte 504.
    fn sparse_extensions(&mut self) -> Result<(), TarError> {
        let mut block = [0; 512];
        loop {
            if self.block(&mut block)? != block.len() {
                return Err(TarError::Truncated("a sparse map"));
            }
            if block[504] == 0 {
                return Ok(());
            }
        }
    }
}

fn read_retry(inner: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match inner.read(buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The first that is not empty.
fn first<const N: usize>(names: [Vec<u8>; N]) -> Vec<u8> {
    names.into_iter().find(|name| !name.is_empty()).unwrap_or_default()
}

/// Name and prefix of a header. GNU archives keep other fields where ustar has its prefix, star has two times at its end.
fn header_path(header: &[u8; 512]) -> Vec<u8> {
    let (magic, version, trailer) = (&header[257..263], &header[263..265], &header[508..512]);
    let is_time = |field: &[u8]| field[0] == 0 || number(field).is_some();
    let prefix = match magic {
        b"ustar\0" if trailer == b"tar\0" => text(&header[345..476]),
        b"ustar\0" => text(&header[345..500]),
        // Go's own writer once put a prefix there; it is told by not being the times that belong there.
        b"ustar " if version == b" \0" && !(is_time(&header[345..357]) && is_time(&header[357..369])) => {
            Some(text(&header[345..500])).filter(|prefix| prefix.is_ascii()).unwrap_or_default()
        }
        _ => &[],
    };
    let name = text(&header[..100]);
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// An octal or base-256 number; `None` if it is neither, negative, or beyond 63 bits.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut value = u64::from(field[0] & 0x7f);
        if field[0] & 0x40 != 0 {
            return None;
        }
        for byte in &field[1..] {
            if value > u64::MAX >> 9 {
                return None;
            }
            value = value << 8 | u64::from(*byte);
        }
        return Some(value);
    }
    // As Go reads them: zeros and spaces may stand before the digits, and a field of nothing else is 0.
    let start = field.iter().position(|b| !matches!(b, 0 | b' ')).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' if value <= u64::MAX >> 4 => Some(value << 3 | u64::from(digit - b'0')),
        _ => None,
    })
}

/// Splits `"<length> <key>=<value>\n"` off the front.
fn pax_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(PAX_LENGTH_DIGITS + 1).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    let record = &data[space + 1..length - 1];
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
