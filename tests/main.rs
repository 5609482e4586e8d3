//! Every test that may see the whole system, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod c;
mod header;
mod model_signing;
mod mutation;
mod python;
mod python_tuf;
mod reasons;
mod scenarios;
mod tidy;
mod uptane_client;
