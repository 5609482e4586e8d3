//! One ONNX Runtime session, run on fixed buffers without an allocation of ours.
//!
//! ONNX Runtime is never linked: its shared library is opened at run time ([`Runtime::load`]), so that an
//! automaker can bring a build of its own. A [`Session`] owns one 64-byte aligned buffer per tensor, bound
//! once; a run is one call into the C API (`RunWithBinding`) and nothing else.
//!
//! ```no_run
//! use switchback_onnx::{Runtime, Session, SessionOptions};
//!
//! let runtime = Runtime::load(None)?;
//! let mut session = Session::open(&runtime, "model.onnx".as_ref(), &SessionOptions::default())?;
//! if let Some(ego) = session.input_index("ego") {
//!     session.input_as_mut::<f32>(ego)?.fill(0.5);
//! }
//! session.run()?;
//! println!("{:?}", session.output(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This is one of the two crates with `unsafe` code; every block names the promise that it relies on.

#![deny(missing_docs)]

mod binding;
mod buffer;
#[cfg(feature = "counting-allocator")]
pub mod counting;
mod error;
mod hand_off;
mod heap;
#[cfg(feature = "model-builder")]
pub mod model_builder;
#[cfg(feature = "raw-loop")]
pub mod raw_loop;
mod runtime;
mod session;
mod tensor;

pub use error::{OpenError, RunError, RuntimeError, WrongElement};
pub use hand_off::HandOff;
pub use heap::return_free_memory;
pub use runtime::Runtime;
pub use session::{Optimization, Prepacking, RecurrentPair, Session, SessionOptions};
pub use tensor::{Element, ElementType, TensorInfo};
