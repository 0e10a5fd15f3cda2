//! What one scan may cost. Every figure is a hard bound; reaching one is a problem in the report, never a crash.

use serde::{Deserialize, Serialize};

/// Bounds of one scan. `Default` is what `wharf scan` and the server use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Layers in one image. Docker itself stops at 127.
    pub layers: u32,
    /// Archive entries in one image.
    pub entries: u64,
    /// Bytes of one path or link target inside a layer (`PATH_MAX` of Linux).
    pub path_bytes: u32,
    /// Bytes of one pax header. Extended attributes live there, so it is larger than a path.
    pub header_bytes: u32,
    /// Uncompressed bytes of one layer.
    pub layer_bytes: u64,
    /// Uncompressed bytes of all layers.
    pub image_bytes: u64,
    /// Uncompressed bytes for each compressed byte, looked at only beyond [`Limits::ratio_floor_bytes`].
    pub ratio: u32,
    /// Below this many uncompressed bytes a layer may have any ratio.
    pub ratio_floor_bytes: u64,
    /// Bytes of one file that is read to be parsed (a package database, a licence text).
    pub file_bytes: u32,
    /// Window of a zstd frame: the memory that the frame asks for.
    pub zstd_window_bytes: u32,
    /// Packages in one image.
    pub packages: u32,
    /// Problems kept in the report; further ones are counted.
    pub problems: u32,
    /// Bytes of the image's configuration document.
    pub config_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layers: 512,
            entries: 20_000_000,
            path_bytes: 4096,
            header_bytes: 1 << 20,
            layer_bytes: 64 << 30,
            image_bytes: 128 << 30,
            ratio: 400,
            ratio_floor_bytes: 1 << 30,
            file_bytes: 16 << 20,
            zstd_window_bytes: 32 << 20,
            packages: 50_000,
            problems: 100,
            config_bytes: 4 << 20,
        }
    }
}
