//! TUF and Uptane metadata: what the files say. Nothing in here is believed; [`crate::trust`] decides that.
//!
//! Files are read strictly ([`json`]), fields that we do not know are kept because they are signed, and signatures cover the canonical
//! form of what was received.
//!
//! ```
//! use switchback_signing::{
//!     keys::Ed25519Signer,
//!     metadata::{Signed, Snapshot, sign},
//!     time::UnixTime,
//! };
//! let snapshot = Snapshot::new(1, UnixTime::parse_rfc3339("2027-01-01T00:00:00Z")?);
//! let bytes = sign(&snapshot, &[&Ed25519Signer::from_seed([1; 32])])?;
//! assert_eq!(Signed::<Snapshot>::parse(&bytes, 1_000)?.signed, snapshot);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aktualizr;
mod custom;
mod delta;
mod described;
mod envelope;
mod freshness;
mod hashes;
pub mod json;
mod names;
pub(crate) mod normal;
pub(crate) mod object;
mod offline;
mod root;
mod snapshot;
mod targets;
pub mod vehicle;

use alloc::string::String;

use thiserror::Error;

pub use self::{
    custom::{BundleRef, Companion, Custom, EcuImage, EncryptionMethod, EncryptionMethodError},
    delta::DeltaRef,
    described::ListedEcu,
    envelope::{
        AddSignatureError, Document, MergeError, Role, SPEC_VERSION, SignatureEntry, Signed, add_signature, merge_signatures, sign,
        sign_envelope,
    },
    freshness::{Freshness, Nonce, NonceError},
    hashes::{DigestMismatch, Hashes, HashesCheck},
    names::{EcuSerial, HardwareId, NAME_BYTES_MAX, NameError, Region, Tier, VehicleId, Version, VersionError},
    offline::OfflineScope,
    root::{RoleKeys, Root, RootRole},
    snapshot::{MetaFile, Snapshot, Timestamp},
    targets::{Agreement, DelegatedRole, Delegations, EcuAssignment, PathSet, SuccinctRoles, TargetMeta, Targets},
};
use crate::keys::KeyId;

/// Bytes that are not the metadata they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Not strict JSON, or too long.
    #[error(transparent)]
    Json(#[from] json::JsonError),
    /// A field that must be there is not.
    #[error("{place} is missing")]
    Missing {
        /// The field, as a path from the top of the file.
        place: String,
    },
    /// A field holds something else than it must.
    #[error("{place} is not {expected}")]
    Wrong {
        /// The field, as a path from the top of the file.
        place: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The metadata of another role, offered as this one.
    #[error("this is {found} metadata where {expected} metadata was expected")]
    WrongType {
        /// The role that was asked for.
        expected: &'static str,
        /// What `_type` says.
        found: String,
    },
    /// A string that looks like another one and is not.
    #[error("{text:?} is not in Unicode normalization form C")]
    NotNormal {
        /// The string.
        text: String,
    },
    /// Two signatures under one key id.
    #[error("two signatures carry the key id {key_id}")]
    DuplicateSignature {
        /// The key id.
        key_id: KeyId,
    },
}

#[cfg(test)]
mod tests;
