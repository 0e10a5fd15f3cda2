//! The server's side of the pipes: bytes to send, bytes received. Reading and writing them is the caller's.
//!
//! The caller must read answers while it still writes the request: the worker tells its progress meanwhile, and would wait
//! for ever on a full pipe.

use wharf_oci::Descriptor;

use super::frame::{Frame, FrameError, HEAD_BYTES, head_of, write};
use super::{Announced, CHUNK_BYTES, PROTOCOL, Start};
use crate::Progress;
use crate::limits::Limits;
use crate::report::{REPORT_VERSION, Report};

/// Bytes of a report's JSON; the most that [`Limits`] let a scan find is below it.
const REPORT_BYTES: usize = 192 << 20;

/// What to send, in this order: [`Request::open`], then for each layer that is sent its chunks and [`Request::layer_end`]
/// or [`Request::layer_lost`].
#[derive(Debug)]
pub struct Request;

impl Request {
    /// The first bytes. `layers` says of each layer whether its bytes will be sent.
    ///
    /// # Errors
    /// If descriptors or configuration are over the frame's bound.
    pub fn open<'a>(
        limits: &Limits,
        config: &[u8],
        layers: impl Iterator<Item = (&'a Descriptor, bool)>,
    ) -> Result<Vec<u8>, FrameError> {
        let layers = layers.map(|(descriptor, sent)| Announced { descriptor: descriptor.clone(), sent });
        let start = Start { protocol: PROTOCOL, limits: limits.clone(), layers: layers.collect() };
        let mut out = Vec::new();
        write(&mut out, &Frame::Start(serde_json::to_vec(&start).map_err(FrameError::Start)?))?;
        write(&mut out, &Frame::Config(config.to_vec()))?;
        Ok(out)
    }

    /// What goes before `bytes` of a layer, of which there are at most [`CHUNK_BYTES`].
    pub fn chunk_head(bytes: usize) -> [u8; HEAD_BYTES] {
        debug_assert!(bytes <= CHUNK_BYTES);
        head_of(&Frame::Chunk(Vec::new()), bytes)
    }

    /// Ends a layer.
    pub fn layer_end() -> [u8; HEAD_BYTES] {
        head_of(&Frame::LayerEnd, 0)
    }

    /// Ends a layer that could not be read to its end.
    ///
    /// # Errors
    /// None in practice: a message over its bound is cut.
    pub fn layer_lost(why: &str) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::new();
        write(&mut out, &Frame::LayerLost(why.as_bytes().to_vec()))?;
        Ok(out)
    }
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Progress(Progress),
    /// The last one.
    Report(Box<Report>),
    /// The last one: there is no report, and why.
    Failed(String),
}

/// Puts answers together from bytes as they come.
#[derive(Debug, Default)]
pub struct Answers {
    buffer: Vec<u8>,
    report: Vec<u8>,
}

impl Answers {
    /// Takes bytes of the worker's output; gives the answers that they complete.
    ///
    /// # Errors
    /// [`FrameError`] if the worker does not keep to the protocol: end it.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Answer>, FrameError> {
        self.buffer.extend_from_slice(bytes);
        let mut answers = Vec::new();
        let mut at = 0;
        while let Some((head, rest)) = self.buffer[at..].split_first_chunk::<HEAD_BYTES>() {
            let (kind, length) = Frame::head(*head)?;
            let Some(body) = rest.get(..length) else { break };
            let body = body.to_vec();
            at += HEAD_BYTES + length;
            match Frame::of(kind, body)? {
                Frame::Progress(progress) => answers.push(Answer::Progress(progress)),
                Frame::Piece(piece) => {
                    if self.report.len() + piece.len() > REPORT_BYTES {
                        return Err(FrameError::ReportTooLarge(REPORT_BYTES));
                    }
                    self.report.extend(piece);
                }
                Frame::Done => {
                    answers.push(Answer::Report(Box::new(parse(&std::mem::take(&mut self.report))?)))
                }
                Frame::Failed(why) => {
                    answers.push(Answer::Failed(String::from_utf8_lossy(&why).into_owned()))
                }
                other => return Err(FrameError::Unexpected(other.name())),
            }
        }
        self.buffer.drain(..at);
        Ok(answers)
    }
}

fn parse(json: &[u8]) -> Result<Report, FrameError> {
    let report: Report = serde_json::from_slice(json).map_err(FrameError::Report)?;
    if report.version != REPORT_VERSION {
        return Err(FrameError::Version { found: report.version, read: REPORT_VERSION });
    }
    Ok(report)
}
