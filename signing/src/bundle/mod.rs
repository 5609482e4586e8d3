//! The signed, compressed artifact that carries a driving model.
//!
//! A bundle is an ordinary ustar archive, cut into chunks that are compressed one by one: `zstd -dc BUNDLE | tar t` lists it, unless each
//! chunk is encrypted too, under the bundle's own [`ContentKey`] (`docs/adr/0012`). Its
//! [`ChunkIndex`], a small signed file, holds the SHA-256 of every chunk before and after decoding, so that a vehicle checks each
//! piece before it looks at it, resumes after a power cut, and reuses what it already has.
//!
//! ```
//! use switchback_signing::bundle::{BundleError, ChunkDecoder, ChunkIndex, ContentKey, Event, Manifest, TarReader};
//!
//! /// `index` is the content of a verified target; `key` is there where the bundle is encrypted; `fetch` brings the stored bytes of one chunk
//! /// from anywhere.
//! fn install(index: &[u8], key: Option<&ContentKey>, fetch: impl Fn(u64, u32) -> Vec<u8>) -> Result<Manifest, BundleError> {
//!     let index = ChunkIndex::parse(index)?;
//!     let mut decoder = ChunkDecoder::new(&index, key)?;
//!     let mut reader = TarReader::new(&index);
//!     for row in index.rows() {
//!         let stored = fetch(row.stored_offset(), row.stored_length());
//!         let mut chunk = decoder.decode(index.verify_stored(row.number(), &stored)?)?;
//!         while let Some(event) = reader.next(&mut chunk)? {
//!             match event {
//!                 Event::Manifest { .. } => { /* is it for this vehicle? is there room? */ }
//!                 Event::FileStart(_file) => { /* create it */ }
//!                 Event::Data(_bytes) => { /* write them */ }
//!                 Event::FileEnd(_file) => { /* sync it */ }
//!                 Event::End => {}
//!             }
//!         }
//!     }
//!     reader.finish()
//! }
//! # assert!(install(b"SWBX", None, |_, _| Vec::new()).is_err());
//! ```

pub mod archive;
pub mod chunk;
pub mod content_key;
pub mod contract;
#[cfg(feature = "std")]
pub mod decoder;
pub mod delta;
#[cfg(feature = "std")]
mod encryption;
pub mod error;
mod fields;
#[cfg(feature = "std")]
mod frame;
pub mod index;
mod json;
pub mod manifest;
mod ustar;
#[cfg(feature = "std")]
pub mod writer;

#[cfg(all(test, feature = "std"))]
mod tests;

pub use archive::{Event, TarReader};
pub use chunk::{RawChunk, VerifiedChunk};
pub use content_key::ContentKey;
pub use contract::Contract;
#[cfg(feature = "std")]
pub use decoder::ChunkDecoder;
pub use error::BundleError;
pub use index::{ChunkIndex, ChunkRow, Filter};
pub use manifest::Manifest;
#[cfg(feature = "std")]
pub use writer::BundleWriter;
