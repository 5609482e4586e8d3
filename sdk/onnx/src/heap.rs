//! What Rust's allocator interface cannot say.

/// Returns the free memory of the C heap to the system, as far as the C library can (glibc: `malloc_trim`).
///
/// To be called after a session was dropped, on the thread that dropped it. ONNX Runtime frees a model in many
/// small pieces that glibc keeps: without this call the resident set grew from 216 to 875 MiB in 20 model swaps,
/// with it it stayed flat. It may take tens of milliseconds and takes the heap's locks arena by arena: never call
/// it on the thread that drives.
pub fn return_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> core::ffi::c_int;
        }
        // SAFETY: malloc_trim takes any pad, is thread-safe (malloc_trim(3)) and touches free memory only.
        unsafe { malloc_trim(0) };
    }
}
