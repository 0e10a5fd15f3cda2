//! The memory of one call: all linear memories and tables together, since a component may have several of each.

use wasmtime::ResourceLimiter;

use super::LimitHit;

/// The most elements of one call's tables together.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 20_000;

/// What the instances of one call have taken.
#[derive(Debug)]
pub(crate) struct Memory {
    max_bytes: usize,
    /// Bytes of all linear memories now, which is also the most there were: memories never shrink.
    pub(crate) bytes: usize,
    elements: usize,
}

impl Memory {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, elements: 0 }
    }
}

/// Too much is a trap rather than a refusal: a guest that is refused memory aborts anyway, and would do so with less to say.
impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.max_bytes {
            return Err(wasmtime::Error::new(LimitHit::Memory));
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > MAX_TABLE_ELEMENTS {
            return Err(wasmtime::Error::new(LimitHit::Memory));
        }
        self.elements = elements;
        Ok(true)
    }
}
