//! A scan in a process of its own, so that a hostile image can break nothing but its own scan.
//!
//! What an operator sees: `wharf scan-worker` among the processes while an image is scanned. Entries: [`serve`] is the
//! worker's side, reading an image from a pipe and writing a report to another; [`Request`] and [`Answers`] are the other
//! side's codec, for whatever kind of input and output the caller has; [`confine`] takes away what the worker does not need.
//!
//! Invariant: both sides bound every frame before they allocate for it; neither trusts the other.
//! Invariant: the worker can open nothing, connect to nothing and run nothing: the kernel refuses it ([`confine`]). What it has
//! not been sent it cannot read, and it can write only to its pipe.

mod client;
mod confine;
mod frame;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wharf_oci::Descriptor;

pub use client::{Answer, Answers, Request};
pub use confine::{Confine, ConfineError, Confined, confine};
pub use frame::{CHUNK_BYTES, FrameError};

use self::frame::{Frame, Input};
use crate::image::{Image, Layer};
use crate::limits::Limits;
use crate::scan;

/// Version of the frames. Both sides are the same program, so another one means a mixed installation.
const PROTOCOL: u32 = 1;

/// The first frame: what is to be scanned, and how far it may go.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    protocol: u32,
    limits: Limits,
    layers: Vec<Announced>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Announced {
    descriptor: Descriptor,
    /// Whether its bytes will be sent; a foreign layer's are not.
    sent: bool,
}

/// Why the worker gave up. What is wrong with the image is answered instead.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the request cannot be read: {0}")]
    Request(FrameError),
    #[error("the request has protocol {found}, this worker {PROTOCOL}")]
    Protocol { found: u32 },
    #[error("the answer cannot be written: {0}")]
    Answer(io::Error),
}

impl From<FrameError> for WorkerError {
    fn from(error: FrameError) -> Self {
        WorkerError::Request(error)
    }
}

/// Reads one image from `input`, scans it, and answers on `output`.
///
/// # Errors
/// [`WorkerError`] if the other side is gone or does not speak the protocol.
pub fn serve(input: impl Read + Send, output: impl Write) -> Result<(), WorkerError> {
    let mut input = Input::new(input);
    let start: Start = match input.next()? {
        Frame::Start(json) => serde_json::from_slice(&json).map_err(FrameError::Start)?,
        other => return Err(FrameError::Unexpected(other.name()).into()),
    };
    if start.protocol != PROTOCOL {
        return Err(WorkerError::Protocol { found: start.protocol });
    }
    let config = match input.next()? {
        Frame::Config(config) => config,
        other => return Err(FrameError::Unexpected(other.name()).into()),
    };
    // Frames of a layer come while it is read, one layer after the other, so they share the input.
    let input = Arc::new(Mutex::new(input));
    let layers = start.layers.into_iter().map(|announced| {
        let input = announced.sent.then(|| Arc::clone(&input));
        Layer {
            descriptor: announced.descriptor,
            open: input.map(|input| {
                Box::new(move || {
                    lock(&input).begin_layer()?;
                    Ok(Box::new(LayerBytes(input)) as Box<dyn Read + Send>)
                }) as crate::image::Open<'_>
            }),
        }
    });
    let output = RefCell::new(output);
    let mut lost = None;
    let mut progress = |progress| {
        if let Err(error) = frame::write(&mut *output.borrow_mut(), &Frame::Progress(progress)) {
            lost.get_or_insert(error);
        }
    };
    let result = scan(Image { config: &config, layers: layers.collect() }, &start.limits, &mut progress);
    if let Some(error) = lost {
        return Err(WorkerError::Answer(error));
    }
    let mut output = output.into_inner();
    let answered = match result {
        Ok(report) => answer(&mut output, &report),
        Err(error) => frame::write(&mut output, &Frame::Failed(error.to_string().into_bytes())),
    };
    answered.and_then(|()| output.flush()).map_err(WorkerError::Answer)
}

/// The report in pieces, without a second copy of all of it.
fn answer(output: &mut impl Write, report: &crate::Report) -> io::Result<()> {
    let mut pieces = io::BufWriter::with_capacity(CHUNK_BYTES, Pieces(&mut *output));
    serde_json::to_writer(&mut pieces, report)?;
    pieces.flush()?;
    drop(pieces);
    frame::write(output, &Frame::Done)
}

struct Pieces<'a, W: Write>(&'a mut W);

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK_BYTES);
        frame::write(self.0, &Frame::Piece(bytes[..n].to_vec()))?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The layer that is being sent.
struct LayerBytes<R: Read>(Arc<Mutex<Input<R>>>);

impl<R: Read> Read for LayerBytes<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read_layer(buf)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
