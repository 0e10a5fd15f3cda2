//! Compressed bytes in, archive bytes out. The format is told by its first bytes, not by the media type, which is a claim.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Skippable zstd frames are `0x184D2A5?`, little endian; zstd:chunked keeps its table of contents in them.
const ZSTD_SKIP: [u8; 3] = [0x2a, 0x4d, 0x18];
const INPUT_BUFFER_BYTES: usize = 128 << 10;
/// Bytes that tell a format.
pub(crate) const HEAD_BYTES: usize = 4;

/// One decompressing reader over stored bytes.
pub(crate) enum Unpack<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<Zstd<R>>),
}

impl<R: Read> Unpack<R> {
    /// Chooses by `head`, the stream's first bytes, which `inner` gives again.
    pub(crate) fn new(head: &[u8], inner: R, zstd_window_bytes: u32) -> Self {
        let input = BufReader::with_capacity(INPUT_BUFFER_BYTES, inner);
        let skippable = head.len() == HEAD_BYTES && head[1..4] == ZSTD_SKIP && head[0] & 0xf0 == 0x50;
        if head.starts_with(GZIP) {
            Self::Gzip(Box::new(MultiGzDecoder::new(input)))
        } else if head.starts_with(ZSTD) || skippable {
            Self::Zstd(Box::new(Zstd::new(input, zstd_window_bytes)))
        } else {
            Self::Plain(input)
        }
    }

    /// The stored bytes, to read what the decompressor left of them.
    pub(crate) fn stored(&mut self) -> &mut BufReader<R> {
        match self {
            Self::Plain(input) => input,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => &mut decoder.input,
        }
    }
}

impl<R: Read> Read for Unpack<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
            Self::Zstd(decoder) => decoder.read(buf),
        }
    }
}

/// Frames one after the other, as `zstd -d` reads them; the decoder below knows only one.
pub(crate) struct Zstd<R: Read> {
    input: BufReader<R>,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: Read> Zstd<R> {
    fn new(input: BufReader<R>, window_bytes: u32) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(u64::from(window_bytes));
        Self { input, frame, in_frame: false }
    }

    /// Starts the next frame; false at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        use std::io::BufRead as _;
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.input).take(u64::from(length));
                    if io::copy(&mut skipped, &mut io::sink())? != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            }
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                self.frame
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            }
            let n = self.frame.read(buf)?;
            if n > 0 {
                return Ok(n);
            }
            self.in_frame = false;
        }
    }
}
