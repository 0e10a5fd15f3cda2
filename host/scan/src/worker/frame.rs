//! Frames on the pipes: `length u32 | kind u8 | body`, little endian, the length being that of the body.

use std::io::{self, Read, Write};

use crate::Progress;

/// Bytes of one piece of a layer or report.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Descriptors of all layers, with their annotations.
const START_BYTES: usize = 16 << 20;
const CONFIG_BYTES: usize = 16 << 20;
const MESSAGE_BYTES: usize = 4 << 10;
const PROGRESS_BYTES: usize = 24;
pub(super) const HEAD_BYTES: usize = 5;

/// What is wrong with a pipe's contents.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    #[error("`{kind}` frame of {bytes} bytes")]
    Length { kind: &'static str, bytes: usize },
    #[error("`{0}` frame out of place")]
    Unexpected(&'static str),
    #[error("the start frame does not parse: {0}")]
    Start(serde_json::Error),
    #[error("the report does not parse: {0}")]
    Report(serde_json::Error),
    #[error("the report has version {found}, this program reads {read}")]
    Version { found: u32, read: u32 },
    #[error("the report has more than {0} bytes")]
    ReportTooLarge(usize),
}

/// One frame, of either direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Start(Vec<u8>),
    Config(Vec<u8>),
    /// Stored bytes of the current layer.
    Chunk(Vec<u8>),
    LayerEnd,
    /// The current layer cannot be read further, and why.
    LayerLost(Vec<u8>),
    Progress(Progress),
    /// JSON of the report.
    Piece(Vec<u8>),
    Done,
    Failed(Vec<u8>),
}

/// Kinds, names and bounds of the body.
const KINDS: [(u8, &str, usize); 9] = [
    (1, "start", START_BYTES),
    (2, "config", CONFIG_BYTES),
    (3, "chunk", CHUNK_BYTES),
    (4, "layer-end", 0),
    (5, "layer-lost", MESSAGE_BYTES),
    (17, "progress", PROGRESS_BYTES),
    (18, "piece", CHUNK_BYTES),
    (19, "done", 0),
    (20, "failed", MESSAGE_BYTES),
];

impl Frame {
    fn kind(&self) -> (u8, &'static str, usize) {
        KINDS[match self {
            Self::Start(_) => 0,
            Self::Config(_) => 1,
            Self::Chunk(_) => 2,
            Self::LayerEnd => 3,
            Self::LayerLost(_) => 4,
            Self::Progress(_) => 5,
            Self::Piece(_) => 6,
            Self::Done => 7,
            Self::Failed(_) => 8,
        }]
    }

    pub(super) fn name(&self) -> &'static str {
        self.kind().1
    }

    /// Kind and length of the body that a head announces, checked against the kind's bound.
    pub(super) fn head(head: [u8; HEAD_BYTES]) -> Result<(u8, usize), FrameError> {
        let [a, b, c, d, kind] = head;
        let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some((_, name, max)) = KINDS.iter().find(|(k, ..)| *k == kind) else {
            return Err(FrameError::Kind(kind));
        };
        if bytes > *max {
            return Err(FrameError::Length { kind: name, bytes });
        }
        Ok((kind, bytes))
    }

    /// The frame of a kind and its body.
    pub(super) fn of(kind: u8, body: Vec<u8>) -> Result<Self, FrameError> {
        Ok(match kind {
            1 => Self::Start(body),
            2 => Self::Config(body),
            3 => Self::Chunk(body),
            4 => Self::LayerEnd,
            5 => Self::LayerLost(body),
            17 => Self::Progress(progress(&body)?),
            18 => Self::Piece(body),
            19 => Self::Done,
            20 => Self::Failed(body),
            other => return Err(FrameError::Kind(other)),
        })
    }
}

fn progress(body: &[u8]) -> Result<Progress, FrameError> {
    let Ok(body) = <[u8; PROGRESS_BYTES]>::try_from(body) else {
        return Err(FrameError::Length { kind: "progress", bytes: body.len() });
    };
    let u32_at = |at: usize| u32::from_le_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    Ok(Progress { layer: u32_at(0), of: u32_at(4), stored: u64_at(8), uncompressed: u64_at(16) })
}

/// The head of a frame with `body` bytes of a body.
pub(super) fn head_of(frame: &Frame, body: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes();
    [a, b, c, d, frame.kind().0]
}

/// Writes a frame; a message is cut to its bound.
pub(super) fn write(output: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let mut numbers = [0; PROGRESS_BYTES];
    let body: &[u8] = match frame {
        Frame::Start(body) | Frame::Config(body) | Frame::Chunk(body) | Frame::Piece(body) => body,
        Frame::LayerLost(message) | Frame::Failed(message) => &message[..message.len().min(MESSAGE_BYTES)],
        Frame::LayerEnd | Frame::Done => &[],
        Frame::Progress(progress) => {
            numbers[..4].copy_from_slice(&progress.layer.to_le_bytes());
            numbers[4..8].copy_from_slice(&progress.of.to_le_bytes());
            numbers[8..16].copy_from_slice(&progress.stored.to_le_bytes());
            numbers[16..].copy_from_slice(&progress.uncompressed.to_le_bytes());
            &numbers
        }
    };
    if body.len() > frame.kind().2 {
        return Err(io::Error::other(format!("`{}` frame of {} bytes", frame.name(), body.len())));
    }
    output.write_all(&head_of(frame, body.len()))?;
    output.write_all(body)
}

/// Reads frames, and the chunks of a layer as one stream.
pub(super) struct Input<R: Read> {
    inner: R,
    chunk: Vec<u8>,
    given: usize,
    in_layer: bool,
}

impl<R: Read> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, chunk: Vec::new(), given: 0, in_layer: false }
    }

    pub(super) fn next(&mut self) -> Result<Frame, FrameError> {
        let mut head = [0; HEAD_BYTES];
        self.inner.read_exact(&mut head)?;
        let (kind, bytes) = Frame::head(head)?;
        // The chunk's own buffer is used again.
        let mut body = if kind == 3 { std::mem::take(&mut self.chunk) } else { Vec::new() };
        body.resize(bytes, 0);
        self.inner.read_exact(&mut body)?;
        Frame::of(kind, body)
    }

    /// Passes over what the scan left of the layer before.
    pub(super) fn begin_layer(&mut self) -> io::Result<()> {
        let mut rest = [0; 8192];
        while self.in_layer {
            // A layer that was lost after the scan left it is no concern of the next.
            if self.read_layer(&mut rest).is_ok_and(|n| n == 0) {
                break;
            }
        }
        self.in_layer = true;
        Ok(())
    }

    pub(super) fn read_layer(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.given == self.chunk.len() {
            if !self.in_layer {
                return Ok(0);
            }
            self.chunk.clear();
            self.given = 0;
            let frame = match self.next() {
                Ok(frame) => frame,
                Err(error) => {
                    self.in_layer = false;
                    return Err(io::Error::other(error));
                }
            };
            match frame {
                Frame::Chunk(chunk) => self.chunk = chunk,
                Frame::LayerEnd => self.in_layer = false,
                Frame::LayerLost(why) => {
                    self.in_layer = false;
                    return Err(io::Error::other(String::from_utf8_lossy(&why).into_owned()));
                }
                other => {
                    self.in_layer = false;
                    return Err(io::Error::other(FrameError::Unexpected(other.name())));
                }
            }
        }
        let n = buf.len().min(self.chunk.len() - self.given);
        buf[..n].copy_from_slice(&self.chunk[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}
