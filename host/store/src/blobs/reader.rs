//! Reading a blob, whole or a range, as a stream of bounded chunks.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use futures_util::{Stream, TryStreamExt as _};
use rustix::io::ReadWriteFlags;

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// An open blob. It can be read to its end even if it is deleted meanwhile.
#[derive(Clone, Debug)]
pub struct BlobReader {
    file: Arc<File>,
    size: u64,
}

impl BlobReader {
    pub(super) fn new(file: File, size: u64) -> BlobReader {
        BlobReader { file: Arc::new(file), size }
    }

    /// Bytes of the whole blob.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range (cut to the blob's size), in chunks of at most 64 KiB.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + use<> {
        let range = range.start..range.end.min(self.size);
        Box::pin(try_unfold((self.file.clone(), range), |(file, range)| async move {
            if range.is_empty() {
                return Ok(None);
            }
            let want = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let chunk = read(&file, range.start, want).await?;
            let next = range.start + chunk.len() as u64..range.end;
            Ok(Some((chunk, (file, next))))
        }))
    }

    /// The bytes of a range (cut to the blob's size), all of them in memory: for small blobs, and beginnings of large ones.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn bytes(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut bytes = BytesMut::new();
        let mut stream = self.stream(range);
        while let Some(chunk) = stream.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// For the scanner and other synchronous readers; blocks.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// What the page cache has is read at once; for the rest a blocking thread waits for the disk.
async fn read(file: &Arc<File>, at: u64, want: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; want];
    let cached = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut buffer)], at, ReadWriteFlags::NOWAIT);
    if let Ok(n @ 1..) = cached {
        buffer.truncate(n);
        return Ok(buffer.into());
    }
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || {
        loop {
            match file.read_at(&mut buffer, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer.truncate(n);
                    return Ok(Bytes::from(buffer));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    });
    read.await.map_err(io::Error::other)?
}
