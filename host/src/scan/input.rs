//! One layer's bytes on their way to a worker, from wherever they are.

use std::io::{self, Read as _};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use wharf_oci::Descriptor;
use wharf_scan::worker::CHUNK_BYTES;
use wharf_scan::{Layer, Open};
use wharf_store::BlobReader;

/// Chunks of a blocking reader that are read ahead.
const AHEAD: usize = 4;

/// Stored bytes in pieces of any size.
pub type LayerStream = BoxStream<'static, io::Result<Bytes>>;

/// One layer and how to get its bytes, once it is its turn.
pub struct Input {
    pub descriptor: Descriptor,
    /// `None` if the bytes are not here: a foreign layer, or one that a sparse image leaves out. The report says so.
    pub bytes: Option<BoxFuture<'static, io::Result<LayerStream>>>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl Input {
    /// A layer in the blob store; `None` if it is not there.
    pub fn of_blob(descriptor: Descriptor, blob: Option<BlobReader>) -> Self {
        let bytes = blob.map(|blob| async move { Ok(blob.stream(0..blob.size()).boxed()) }.boxed());
        Input { descriptor, bytes }
    }

    /// A layer of an image on this machine, read on a blocking thread.
    pub fn of_layer(layer: Layer<'static>) -> Self {
        let bytes = layer.open.map(|open| async move { Ok(read_ahead(open)) }.boxed());
        Input { descriptor: layer.descriptor, bytes }
    }

    /// A layer that comes from elsewhere.
    pub fn of_stream(
        descriptor: Descriptor,
        bytes: impl Future<Output = io::Result<LayerStream>> + Send + 'static,
    ) -> Self {
        Input { descriptor, bytes: Some(bytes.boxed()) }
    }
}

fn read_ahead(open: Open<'static>) -> LayerStream {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(error) => return drop(sender.blocking_send(Err(error))),
        };
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let piece = match reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk) {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(chunk)),
                Err(error) => Err(error),
            };
            let last = piece.is_err();
            // Nobody listens any more: the scan has ended.
            if sender.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
}
