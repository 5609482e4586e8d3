//! What a byte means, and whether we believe it.
//!
//! The pure half of Switchback: TUF and Uptane metadata ([`metadata`]), keys and signatures ([`keys`]), the bundle that carries a
//! driving model ([`bundle`]) and the decisions about what may be trusted ([`trust`]). Bytes and the time go in, decisions come
//! out. Nothing here opens a file or a socket, reads a clock or an environment variable, or starts a thread; the callers do.
//!
//! Without the feature `std`, which is on by default, the crate needs `alloc` only. What then is missing is the C library zstd: chunks
//! are checked but neither decoded nor written.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

pub mod bundle;
pub mod digest;
pub mod keys;
pub mod metadata;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod trust;
