//! The signed, compressed artifact that carries a driving model.

pub mod contract;
pub mod manifest;
