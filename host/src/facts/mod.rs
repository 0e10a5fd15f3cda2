//! What is known about images, and how it is kept.
//!
//! An operator sees `wharf image facts dev/app:1.4`. What a scan found is kept by the digest of the platform's manifest, so
//! that the same image in another repository is not scanned again. What a policy is judged on is assembled of such rows
//! into one facts document, sealed, and kept by its digest as long as a decision names it.
//!
//! Entry: [`assemble`]; [`stored::keep`] and [`stored::read`] for sealed documents.
//!
//! Invariant: a document is immutable and named by the digest of its bytes.
//! Invariant: what nobody has looked at is `none`, what waits for a scan `pending`; neither is clean.
//! Invariant: a facts document that was read back has the digest that it was stored under, or it is an error.

pub mod assemble;
pub mod document;
pub mod found;
pub mod scanned;
pub mod stored;
pub mod vulnerability_data;

pub use assemble::{ImageConfig, PlatformInput, TagInput, assemble, total_size};
pub use document::{DocumentError, Kind, Pending};
pub use scanned::Scanned;
