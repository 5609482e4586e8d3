//! An allocator that counts, for the tests which show that a run or a step allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread its own calls: other threads do not matter. To be the `#[global_allocator]` of a test.
#[derive(Debug)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// Allocations and releases of the calling thread so far.
    #[must_use]
    pub fn calls() -> u64 {
        CALLS.get()
    }
}

// SAFETY: everything is passed on to the system's allocator; counting touches a `Cell` that needs no allocation.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise about both is passed on.
        unsafe { System.dealloc(pointer, layout) };
    }
}
