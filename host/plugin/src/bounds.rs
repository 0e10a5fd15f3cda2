//! What each limit of a call may be, in the host's configuration and in the `.toml` beside a plugin.

use std::ops::RangeInclusive;

/// How long it may run, in ms.
pub const TIME_MS: RangeInclusive<u64> = 1..=60_000;
/// Memory of all its instances together, in bytes.
pub const MEMORY_BYTES: RangeInclusive<u64> = 1_048_576..=4_294_967_296;
/// Host functions it may call.
pub const HOST_CALLS: RangeInclusive<u64> = 1..=100_000_000;
/// Its reasons and errors together, in bytes.
pub const OUTPUT_BYTES: RangeInclusive<u64> = 1_024..=16_777_216;
/// Log lines that are kept, in bytes.
pub const LOG_BYTES: RangeInclusive<u64> = 0..=16_777_216;
/// The record of what it asked, in bytes.
pub const TRACE_BYTES: RangeInclusive<u64> = 1_024..=16_777_216;
