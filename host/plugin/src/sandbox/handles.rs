//! What the resources of the interface are on the host's side.
#![expect(unreachable_pub, reason = "the generated bindings export them once more, inside this crate")]

use crate::trace::Node;

/// What an `image` handle of a plugin points at.
#[derive(Debug)]
pub struct ImageHandle {
    pub(crate) node: Node,
    /// Set where it is not the subject itself but one of its platforms.
    pub(crate) platform: Option<u32>,
}

/// The `report` of a call.
#[derive(Debug)]
pub struct ReportHandle;
