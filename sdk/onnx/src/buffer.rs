//! Memory that ONNX Runtime and we look at in turn.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// What the widest vector instructions and the cache want; also more than the alignment of every element type.
const ALIGNMENT: usize = 64;

/// A fixed piece of zeroed, 64-byte aligned memory.
///
/// It is a raw allocation and not a `Box`, because ONNX Runtime keeps the address: a `Box` claims to be the only
/// way to its content each time it moves. Who holds the buffer must not let ONNX Runtime run while a slice of it is
/// borrowed; `Session` ensures that by taking `&mut self` to run.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the allocation belongs to the buffer alone and has no tie to a thread.
unsafe impl Send for Buffer {}

impl Buffer {
    /// `bytes` must be between 1 and `TensorInfo::MAX_BYTES`.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        // Never less than one alignment, so that no size is zero, which `alloc_zeroed` does not take.
        let padded = bytes.max(1).next_multiple_of(ALIGNMENT);
        // SAFETY: the alignment is a power of two, and callers pass at most TensorInfo::MAX_BYTES.
        let layout = unsafe { Layout::from_size_align_unchecked(padded, ALIGNMENT) };
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, layout }
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The first `count` elements of type `T`; `count` is cut to what the buffer holds.
    pub(crate) fn as_slice<T: crate::Element>(&self, count: usize) -> &[T] {
        let count = count.min(self.layout.size() / size_of::<T>());
        // SAFETY: `count` elements lie inside the allocation, which is initialised (zeroed) and aligned to 64, and
        // `Element` promises that every bit pattern is a `T`. The borrow of `self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), count) }
    }

    /// As [`Buffer::as_slice`], for writing.
    pub(crate) fn as_mut_slice<T: crate::Element>(&mut self, count: usize) -> &mut [T] {
        let count = count.min(self.layout.size() / size_of::<T>());
        // SAFETY: as in `as_slice`; the exclusive borrow of `self` keeps everyone else away.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast::<T>(), count) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeroed` and freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
