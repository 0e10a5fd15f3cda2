//! One layer, read once: stored bytes → digest → decompression → diff id → archive → [`Assembly`].
//!
//! Invariant: a fault stays in its layer. Whatever was read before it counts, and the stored bytes are still compared with
//! their digest, so that a damaged copy can be told from a hostile image.

pub(crate) mod path;
pub(crate) mod tar;
mod unpack;

use std::io::{self, Read};

use wharf_oci::{Algorithm, Descriptor, Digest, Hasher};

use self::tar::{Tar, TarError};
use self::unpack::{HEAD_BYTES, Unpack};
use crate::Progress;
use crate::assembly::{Assembly, LIMIT_ENTRIES};
use crate::limits::Limits;
use crate::report::{LayerFacts, ProblemCode};

/// Uncompressed bytes between two calls of the progress function.
const PROGRESS_BYTES: u64 = 8 << 20;

/// What the layers share: how much of the image's allowance is left, and who wants to know.
pub(crate) struct Course<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) image_left: u64,
    pub(crate) progress: &'a mut dyn FnMut(Progress),
    pub(crate) of: u32,
}

/// Reads the layer `index` of `descriptor` from `inner` into `assembly`.
pub(crate) fn read(
    inner: Box<dyn Read + Send + '_>,
    descriptor: &Descriptor,
    diff_id: Option<&Digest>,
    index: u32,
    course: &mut Course<'_>,
    assembly: &mut Assembly<'_>,
) -> LayerFacts {
    let mut facts = LayerFacts {
        digest: Some(descriptor.digest.to_string()),
        size: descriptor.size,
        ..Default::default()
    };
    let mut stored = Stored::new(inner, descriptor);
    let head = match stored.open() {
        Ok(head) => head,
        Err(error) => {
            assembly.problem(ProblemCode::Unreadable, None, format!("the layer cannot be read: {error}"));
            return facts;
        }
    };
    let unpack = Unpack::new(&head, stored, course.limits.zstd_window_bytes);
    let mut unpacked = Unpacked {
        unpack,
        hasher: Hasher::new(diff_id.map_or(Algorithm::Sha256, Digest::algorithm)),
        bytes: 0,
        bound: Bound::of(descriptor, course),
        told: 0,
        layer: index,
        of: course.of,
        progress: course.progress,
        over: None,
    };
    unpacked.tell();
    let whole = archive(&mut unpacked, course.limits, &mut facts, assembly);
    unpacked.tell();
    course.image_left = course.image_left.saturating_sub(unpacked.bytes);
    facts.uncompressed = unpacked.bytes;
    let Unpacked { mut unpack, hasher, over, .. } = unpacked;
    if whole {
        let computed = hasher.finish();
        if diff_id.is_some_and(|declared| *declared != computed) {
            let text = format!("the uncompressed layer has digest {computed}, not the configuration's");
            assembly.problem(ProblemCode::DiffIdMismatch, None, text);
        }
        facts.diff_id = Some(computed.to_string());
    }
    // After a bound was hit the rest is not read, so there is nothing to compare.
    if over.is_none() {
        verify(&mut unpack, descriptor, assembly);
    }
    facts
}

/// Hands every member to `assembly`; true if the stream was read to its end.
fn archive(
    unpacked: &mut Unpacked<'_, '_>,
    limits: &Limits,
    facts: &mut LayerFacts,
    assembly: &mut Assembly<'_>,
) -> bool {
    let mut archive = Tar::new(&mut *unpacked, limits.path_bytes, limits.header_bytes);
    let fault = loop {
        match archive.next() {
            Ok(Some(_)) if assembly.entries_left() == 0 => {
                assembly.problem(ProblemCode::Limit, None, LIMIT_ENTRIES.to_owned());
                drop(archive);
                unpacked.over = Some(LIMIT_ENTRIES.to_owned());
                return false;
            }
            Ok(Some(entry)) => {
                if let Err(error) = assembly.member(&entry, &mut archive, facts) {
                    break Some(error);
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(archive);
    let damaged = match fault {
        None => None,
        Some(TarError::Io(error)) => return unpacked.explain(&error, assembly),
        Some(error) => Some(error),
    };
    if let Some(error) = damaged {
        assembly.problem(ProblemCode::Archive, None, format!("the archive is damaged: {error}"));
    }
    // What follows the archive's end mark is part of the layer's digest all the same.
    match io::copy(unpacked, &mut io::sink()) {
        Ok(_) => true,
        Err(error) => unpacked.explain(&error, assembly),
    }
}

/// Reads what the decompressor left and compares digest and size.
fn verify(unpack: &mut Unpack<Stored<'_>>, descriptor: &Descriptor, assembly: &mut Assembly<'_>) {
    let input = unpack.stored();
    if let Err(error) = io::copy(input, &mut io::sink()) {
        assembly.problem(ProblemCode::Unreadable, None, format!("the layer cannot be read: {error}"));
        return;
    }
    let stored = input.get_mut();
    if stored.failed {
        return;
    }
    if stored.bytes != descriptor.size {
        let text =
            format!("the layer has {} bytes, its descriptor says {}", stored.told_bytes(), descriptor.size);
        assembly.problem(ProblemCode::SizeMismatch, None, text);
        return;
    }
    let computed = stored.hasher.clone().finish();
    if computed != descriptor.digest {
        assembly.problem(
            ProblemCode::DigestMismatch,
            None,
            format!("the stored layer has digest {computed}"),
        );
    }
}

/// The layer's bytes as they are stored: counted, hashed, and never more than one beyond their declared size.
struct Stored<'a> {
    inner: io::Take<Box<dyn Read + Send + 'a>>,
    hasher: Hasher,
    bytes: u64,
    declared: u64,
    /// First bytes, read once to tell the format and then given again.
    head: Vec<u8>,
    given: usize,
    failed: bool,
}

impl<'a> Stored<'a> {
    fn new(inner: Box<dyn Read + Send + 'a>, descriptor: &Descriptor) -> Self {
        Self {
            inner: inner.take(descriptor.size.saturating_add(1)),
            hasher: Hasher::new(descriptor.digest.algorithm()),
            bytes: 0,
            declared: descriptor.size,
            head: Vec::new(),
            given: 0,
            failed: false,
        }
    }

    fn open(&mut self) -> io::Result<Vec<u8>> {
        (&mut self.inner).take(HEAD_BYTES as u64).read_to_end(&mut self.head)?;
        Ok(self.head.clone())
    }

    fn told_bytes(&self) -> String {
        if self.bytes > self.declared {
            format!("more than {}", self.declared)
        } else {
            self.bytes.to_string()
        }
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = if self.given < self.head.len() {
            let n = (&self.head[self.given..]).read(buf)?;
            self.given += n;
            n
        } else {
            self.inner.read(buf).inspect_err(|e| self.failed |= e.kind() != io::ErrorKind::Interrupted)?
        };
        self.hasher.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// How many uncompressed bytes a layer may have, and why.
#[derive(Clone, Copy)]
struct Bound {
    bytes: u64,
    why: &'static str,
}

impl Bound {
    fn of(descriptor: &Descriptor, course: &Course<'_>) -> Self {
        let limits = course.limits;
        let by_ratio = descriptor.size.saturating_mul(u64::from(limits.ratio)).max(limits.ratio_floor_bytes);
        let layer = Self { bytes: limits.layer_bytes, why: "`layer_bytes`, uncompressed bytes of a layer" };
        let image = Self { bytes: course.image_left, why: "`image_bytes`, uncompressed bytes of all layers" };
        let ratio = Self { bytes: by_ratio, why: "`ratio`, uncompressed bytes for each stored one" };
        [image, ratio].into_iter().fold(layer, |least, b| if b.bytes < least.bytes { b } else { least })
    }
}

/// The layer's archive bytes: counted, hashed, bounded, reported.
struct Unpacked<'a, 'b> {
    unpack: Unpack<Stored<'a>>,
    hasher: Hasher,
    bytes: u64,
    bound: Bound,
    told: u64,
    layer: u32,
    of: u32,
    progress: &'b mut dyn FnMut(Progress),
    /// Set once a bound was hit.
    over: Option<String>,
}

impl Unpacked<'_, '_> {
    fn tell(&mut self) {
        self.told = self.bytes;
        let stored = self.unpack.stored().get_ref().bytes;
        (self.progress)(Progress { layer: self.layer, of: self.of, stored, uncompressed: self.bytes });
    }

    /// Puts a failed read into the report; false, for the stream was not read to its end.
    fn explain(&mut self, error: &io::Error, assembly: &mut Assembly<'_>) -> bool {
        let (code, text) = if let Some(why) = &self.over {
            (ProblemCode::Limit, why.clone())
        } else if self.unpack.stored().get_ref().failed {
            (ProblemCode::Unreadable, format!("the layer cannot be read: {error}"))
        } else {
            (ProblemCode::Compression, format!("the compressed stream is damaged: {error}"))
        };
        assembly.problem(code, None, text);
        false
    }
}

impl Read for Unpacked<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.unpack.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.bytes += n as u64;
        if self.bytes > self.bound.bytes {
            let why = format!("more than {} bytes: {}", self.bound.bytes, self.bound.why);
            self.over = Some(why.clone());
            return Err(io::Error::other(why));
        }
        if self.bytes - self.told >= PROGRESS_BYTES {
            self.tell();
        }
        Ok(n)
    }
}
