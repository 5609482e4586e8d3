//! sdk/ffi
