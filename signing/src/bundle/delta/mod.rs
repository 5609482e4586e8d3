//! Deltas: a new release as differences from one that is installed, tensor by tensor and bit by bit.
//!
//! A delta is one more index and one more data file for the tar bytes of a bundle, cut in the same chunks. What a chunk restores is
//! checked against the hash in the full index, so that a delta can be refused but never brings other bytes. All knowledge of models is on
//! the side that writes: a delta chunk is a map of segments, each written out, copied from the base, or made of integer differences from it.
//! `docs/adr/0014` has the format and its reasons.
//!
//! ```
//! use switchback_signing::bundle::{
//!     BundleError, ChunkDecoder, ChunkIndex, TarReader,
//!     delta::{Base, Delta, DeltaDecoder, DeltaIndex},
//! };
//!
//! /// `full` and `delta` are the contents of verified targets; `base` reads the files of the installed release.
//! fn restore(
//!     full: &[u8],
//!     delta: &[u8],
//!     base: &mut impl Base,
//!     fetch: impl Fn(u64, u32) -> Vec<u8>,
//!     fetch_full: impl Fn(u64, u32) -> Vec<u8>,
//! ) -> Result<(), BundleError> {
//!     let full = ChunkIndex::parse(full)?;
//!     let delta = Delta::new(DeltaIndex::parse(delta)?, &full)?;
//!     // delta.base().check(...): is it the installed release?
//!     let (mut restorer, mut decoder) = (DeltaDecoder::new(&delta, None)?, ChunkDecoder::new(&full, None)?);
//!     let mut reader = TarReader::new(&full);
//!     for row in full.rows() {
//!         let stored;
//!         let mut chunk = match delta.row(row.number())? {
//!             Some(row) => {
//!                 stored = fetch(row.stored_offset(), row.stored_length());
//!                 restorer.decode(delta.verify_stored(row.number(), &stored)?, base)?
//!             }
//!             None => {
//!                 stored = fetch_full(row.stored_offset(), row.stored_length());
//!                 decoder.decode(full.verify_stored(row.number(), &stored)?)?
//!             }
//!         };
//!         while let Some(_event) = reader.next(&mut chunk)? { /* as for a full bundle */ }
//!     }
//!     reader.finish().map(|_| ())
//! }
//! # struct Nothing;
//! # impl Base for Nothing {
//! #     type Error = &'static str;
//! #     fn read(&mut self, _: usize, _: u64, _: &mut [u8]) -> Result<(), Self::Error> { Err("nothing") }
//! # }
//! # assert!(restore(b"SWBX", b"SWBD", &mut Nothing, |_, _| Vec::new(), |_, _| Vec::new()).is_err());
//! ```

mod base;
#[cfg(feature = "std")]
mod decoder;
#[expect(clippy::module_inception, reason = "the joined delta is what the module is about")]
mod delta;
#[cfg(feature = "std")]
mod element;
#[cfg(feature = "std")]
mod encoder;
#[cfg(feature = "std")]
mod folder;
mod index;
#[cfg(feature = "std")]
mod planes;
#[cfg(feature = "std")]
mod rans;
#[cfg(feature = "std")]
mod rans_encoder;
#[cfg(feature = "std")]
mod segment;
#[cfg(feature = "std")]
mod writer;

#[cfg(all(test, feature = "std"))]
mod tests;

pub use base::{Base, BaseRelease};
#[cfg(feature = "std")]
pub use decoder::DeltaDecoder;
#[cfg(feature = "std")]
pub(super) use decoder::{NoBase, SegmentDecoder};
pub use delta::{Delta, VerifiedDeltaChunk};
#[cfg(feature = "std")]
pub use element::{Element, difference_bits};
#[cfg(feature = "std")]
pub use encoder::{BasePlace, Span, Tally};
#[cfg(feature = "std")]
pub(super) use encoder::{FilePiece, SegmentEncoder};
#[cfg(feature = "std")]
pub use folder::FolderWriter;
pub use index::{DELTA_FORMAT, DELTA_INDEX_LENGTH_MAX, DeltaIndex, Source};
#[cfg(feature = "std")]
pub use segment::Kind;
#[cfg(feature = "std")]
pub use writer::{DeltaPlan, DeltaWriter, FullBundle};
