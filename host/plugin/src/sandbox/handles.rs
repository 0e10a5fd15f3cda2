//! What the resources of the interface are on the host's side: numbers that say it all, so that the host keeps no table of them.
#![expect(unreachable_pub, reason = "the generated bindings export them once more, inside this crate")]

use wasmtime::component::Resource;

/// An `image` of a plugin: 0 is the subject of the call, and n the platform n - 1 of it.
#[derive(Debug)]
pub struct ImageHandle;

impl ImageHandle {
    /// Lent for one call.
    pub(crate) fn subject() -> Resource<Self> {
        Resource::new_borrow(0)
    }

    pub(crate) fn platform(position: u32) -> Resource<Self> {
        Resource::new_own(position + 1)
    }

    /// None: the subject itself.
    pub(crate) fn position(image: &Resource<Self>) -> Option<u32> {
        image.rep().checked_sub(1)
    }
}

/// The `report` of a call, of which there is one.
#[derive(Debug)]
pub struct ReportHandle;

impl ReportHandle {
    /// Lent for one call.
    pub(crate) fn of_the_call() -> Resource<Self> {
        Resource::new_borrow(0)
    }
}
