//! What C sees of the vehicle SDK: `libswitchback` and, generated from this crate, `include/switchback.h`.
//!
//! The crate adds no behavior. Each function checks its pointers and sizes, converts a C struct to the SDK's type, calls the SDK within a
//! panic boundary and converts the answer back. Documentation here is written for the reader of the header.
//!
//! `unsafe` rests on four promises that the header asks of its caller, named in the `SAFETY` comments:
//! - *pointer*: a pointer that is not NULL points to a live object of its type, or to as many as the length beside it says;
//! - *struct_size*: the first field of a struct states how many bytes of it the caller owns;
//! - *text*: a `const char *` that is not NULL ends with a zero byte;
//! - *handle*: a `swb_vehicle` comes from `swb_vehicle_open` and has not been freed.
#![deny(missing_docs)]
// The names in the header are C's, and each type is declared once, under the name that the partner reads.
#![allow(non_camel_case_types)]

mod boundary;
mod log;
mod memory;

// The header lists its items in this order.
pub mod version;

pub mod result;

pub mod last_error;

pub mod input;

pub mod output;

pub mod callbacks;

pub mod config;

pub mod status;

pub mod vehicle;
