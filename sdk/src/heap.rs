//! The heap of a plugin that is built without WASI.
//!
//! Each call has a fresh memory, and the allocator of Rust's standard library would begin by growing it: a system call of the
//! host's, in each call. So the first bytes come from an arena that is a part of the memory from the start. It takes back only
//! what was handed out last; what does not fit goes to the standard allocator, which takes everything back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// What the arena holds: more than a call that answers within its time usually asks for.
const ARENA_BYTES: usize = 128 << 10;

/// The alignment of the arena; what wants more goes to the standard allocator.
const ALIGN: usize = 16;

#[repr(C, align(16))]
struct Bytes(UnsafeCell<[u8; ARENA_BYTES]>);

/// An arena, and the standard allocator behind it.
pub(crate) struct Heap {
    bytes: Bytes,
    /// Where the free part begins.
    next: Cell<usize>,
}

// SAFETY: a plugin has one thread; there is no other that the host would link.
unsafe impl Sync for Heap {}

impl Heap {
    pub(crate) const fn new() -> Self {
        Heap { bytes: Bytes(UnsafeCell::new([0; ARENA_BYTES])), next: Cell::new(0) }
    }

    fn start(&self) -> *mut u8 {
        self.bytes.0.get().cast()
    }

    /// Where in the arena a block lies.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let offset = (block as usize).wrapping_sub(self.start() as usize);
        (offset < ARENA_BYTES).then_some(offset)
    }
}

// SAFETY: a block lies between the `next` before it and the `next` after it, so no two overlap; `next` only goes back over the
// block that was handed out last, when that is freed.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let at = self.next.get().next_multiple_of(layout.align().min(ALIGN));
        match at.checked_add(layout.size()) {
            Some(end) if end <= ARENA_BYTES && layout.align() <= ALIGN => {
                self.next.set(end);
                // SAFETY: `at` is at most the arena's end.
                unsafe { self.start().add(at) }
            }
            // SAFETY: the caller's promise.
            _ => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(at) if at + layout.size() == self.next.get() => self.next.set(at),
            Some(_) => {}
            // SAFETY: the caller's promise; it is not of the arena.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(at) = self.offset(block) else {
            // SAFETY: the caller's promise; it is not of the arena.
            return unsafe { System.realloc(block, layout, size) };
        };
        let last = at + layout.size() == self.next.get();
        if size <= layout.size() || last && size <= ARENA_BYTES - at {
            if last {
                self.next.set(at + size);
            }
            return block;
        }
        // SAFETY: the caller promises that `size` is one for a layout with this alignment.
        let grown = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !grown.is_null() {
            // SAFETY: the old block has `layout.size()` bytes, the new one more, and they do not overlap.
            unsafe { grown.copy_from_nonoverlapping(block, layout.size()) };
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocates, grows and frees blocks of all sizes, and looks whether each holds what was written to it.
    #[test]
    fn blocks_do_not_overlap_and_keep_their_bytes() {
        let heap = Heap::new();
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for step in 0_usize..5_000 {
            let layout = Layout::from_size_align(1 + step * 7919 % 700, 1 << (step % 6)).unwrap();
            let mark = (step % 251) as u8;
            // SAFETY: each block is used within its layout, and freed once with the layout it then has.
            unsafe {
                let block = heap.alloc(layout);
                assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                block.write_bytes(mark, layout.size());
                live.push((block, layout, mark));
                if step % 3 == 0 {
                    let (block, layout, mark) = live.pop().unwrap();
                    let grown = Layout::from_size_align(layout.size() * 2, layout.align()).unwrap();
                    let block = heap.realloc(block, layout, grown.size());
                    block.add(layout.size()).write_bytes(mark, layout.size());
                    live.push((block, grown, mark));
                }
                if step % 2 == 0 {
                    let (block, layout, mark) = live.swap_remove(step * 31 % live.len());
                    assert!((0..layout.size()).all(|at| *block.add(at) == mark));
                    heap.dealloc(block, layout);
                }
            }
        }
        for (block, layout, mark) in live {
            // SAFETY: as above.
            unsafe {
                assert!((0..layout.size()).all(|at| *block.add(at) == mark));
                heap.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn what_was_handed_out_last_is_taken_back_and_grows_in_place() {
        let heap = Heap::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: each block is freed once with its layout.
        unsafe {
            let first = heap.alloc(layout);
            assert_eq!(heap.realloc(first, layout, ARENA_BYTES), first);
            heap.dealloc(first, Layout::from_size_align(ARENA_BYTES, 8).unwrap());
            assert_eq!(heap.alloc(layout), first);
        }
    }
}
