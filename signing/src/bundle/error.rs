//! Why a bundle is refused.

use alloc::string::String;

use thiserror::Error;

use crate::{digest::Sha256Digest, metadata::EncryptionMethod};

/// Why a bundle, its index or its manifest is refused. Numbers are stable: 200 to 299 belong to the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The chunk index ends early or has bytes after its last row.
    #[error("chunk index is {found} bytes long, its header says {expected}")]
    IndexLength {
        /// Length by the number of rows.
        expected: u64,
        /// Length that was given.
        found: u64,
    },
    /// The bytes are no chunk index at all.
    #[error("not a chunk index: it begins with {found:02x?}, not with `SWBX`")]
    IndexMagic {
        /// First four bytes.
        found: [u8; 4],
    },
    /// A format of the index that this release does not know.
    #[error("chunk index format {found} is unknown, this release reads {known}")]
    IndexFormat {
        /// Format that the index states.
        found: u16,
        /// Format that is read here.
        known: u16,
    },
    /// A value of the index's header is outside its limits or contradicts the rows.
    #[error("chunk index: {field} is {found}, expected {expected}")]
    IndexHeader {
        /// Name of the field.
        field: &'static str,
        /// What would be right, in words.
        expected: String,
        /// Value that the index states.
        found: u64,
    },
    /// A row of the index is outside its limits.
    #[error("chunk index row {row}: {field} is {found}, allowed is {allowed}")]
    IndexRow {
        /// Number of the row, from 0.
        row: usize,
        /// Name of the field.
        field: &'static str,
        /// What is allowed, in words.
        allowed: String,
        /// Value that the row states.
        found: u64,
    },
    /// A chunk number beyond the last row.
    #[error("chunk {chunk} does not exist, the bundle has {chunks}")]
    ChunkUnknown {
        /// Number that was asked for.
        chunk: usize,
        /// Number of chunks in the bundle.
        chunks: usize,
    },
    /// The stored bytes of a chunk do not have the signed length.
    #[error("chunk {chunk} has {found} stored bytes, the index says {expected}")]
    ChunkLength {
        /// Number of the chunk.
        chunk: usize,
        /// Length in the index.
        expected: u64,
        /// Length that was given.
        found: u64,
    },
    /// The stored bytes of a chunk are not the signed ones.
    #[error("chunk {chunk} has SHA-256 {found}, the index says {expected}")]
    ChunkHash {
        /// Number of the chunk.
        chunk: usize,
        /// Digest in the index.
        expected: Sha256Digest,
        /// Digest of what was given.
        found: Sha256Digest,
    },
    /// The stored bytes are the signed ones, but no single acceptable zstd frame.
    #[error("chunk {chunk} cannot be decoded: {reason}")]
    ChunkDecode {
        /// Number of the chunk.
        chunk: usize,
        /// What is wrong with the frame.
        reason: &'static str,
    },
    /// The decoded bytes do not have the signed length.
    #[error("chunk {chunk} decodes to {found} bytes, the index says {expected}")]
    RawLength {
        /// Number of the chunk.
        chunk: usize,
        /// Length in the index.
        expected: u64,
        /// Length after decoding.
        found: u64,
    },
    /// The decoded bytes are not the signed ones.
    #[error("chunk {chunk} decodes to SHA-256 {found}, the index says {expected}")]
    RawHash {
        /// Number of the chunk.
        chunk: usize,
        /// Digest in the index.
        expected: Sha256Digest,
        /// Digest after decoding.
        found: Sha256Digest,
    },
    /// A chunk was given to the archive reader out of turn.
    #[error("archive byte {expected} is next, the chunk begins at {found}")]
    ChunkOrder {
        /// Offset in the archive that the reader waits for.
        expected: u64,
        /// Offset of the chunk that was given.
        found: u64,
    },
    /// The archive between two files is not what the manifest calls for.
    #[error("archive byte {offset}, before {before}: found {found:#04x}, the manifest calls for {expected:#04x}")]
    ArchiveBytes {
        /// Offset in the archive.
        offset: u64,
        /// The member that should follow, or `the end`.
        before: String,
        /// Byte that a ustar archive of this manifest has there.
        expected: u8,
        /// Byte that was found.
        found: u8,
    },
    /// The archive's length in the index is not the one that follows from the manifest.
    #[error("the index says {found} archive bytes, the manifest's files make {expected}")]
    ArchiveLength {
        /// Length by the manifest.
        expected: u64,
        /// Length in the index.
        found: u64,
    },
    /// The chunks ended before the archive did.
    #[error("the bundle ends at archive byte {found} of {expected}")]
    ArchiveTruncated {
        /// Length by the index.
        expected: u64,
        /// Archive bytes that were read.
        found: u64,
    },
    /// A member's content is not what the manifest says.
    #[error("{path} has SHA-256 {found}, the manifest says {expected}")]
    FileHash {
        /// Path of the member.
        path: String,
        /// Digest in the manifest.
        expected: Sha256Digest,
        /// Digest of the content.
        found: Sha256Digest,
    },
    /// A member's content is shorter or longer than the manifest says (only when writing; a reader cannot get there).
    #[error("{path} has {found} bytes, the manifest says {expected}")]
    FileLength {
        /// Path of the member.
        path: String,
        /// Length in the manifest.
        expected: u64,
        /// Length of the content; one more than expected when it goes on.
        found: u64,
    },
    /// Fewer or more members were written than the manifest lists.
    #[error("{found} files were written, the manifest lists {expected}")]
    FileCount {
        /// Number of files in the manifest.
        expected: usize,
        /// Number of files that were written.
        found: usize,
    },
    /// The manifest's bytes are not the signed ones.
    #[error("manifest.json has SHA-256 {found}, the index says {expected}")]
    ManifestHash {
        /// Digest in the index.
        expected: Sha256Digest,
        /// Digest of the manifest.
        found: Sha256Digest,
    },
    /// The manifest is too large.
    #[error("manifest.json is {found} bytes long, allowed are {allowed}")]
    ManifestLength {
        /// Limit.
        allowed: u64,
        /// Length that was given.
        found: u64,
    },
    /// The manifest is no JSON of the expected shape.
    #[error("manifest.json: {reason}")]
    ManifestJson {
        /// What the reader says, with line and column.
        reason: String,
    },
    /// A format of the manifest that this release does not know.
    #[error("manifest format {found} is unknown, this release reads {known}")]
    ManifestFormat {
        /// Format that the manifest states.
        found: u32,
        /// Format that is read here.
        known: u32,
    },
    /// A field of the manifest is outside its limits or contradicts another.
    #[error("manifest.json: {field} is {found}, expected {expected}")]
    Manifest {
        /// Path of the field, such as `files[3].path`.
        field: String,
        /// What would be right, in words.
        expected: String,
        /// What was found, in words.
        found: String,
    },
    /// A version of the model contract that this release does not know.
    #[error("contract version {found} is unknown, this release reads {known}")]
    ContractVersion {
        /// Version that the contract states.
        found: u32,
        /// Version that is read here.
        known: u32,
    },
    /// The contract is no JSON of the expected shape.
    #[error("contract: {reason}")]
    ContractJson {
        /// What the reader says, with line and column.
        reason: String,
    },
    /// A field of the contract is outside its limits or contradicts another.
    #[error("contract: {field} is {found}, expected {expected}")]
    Contract {
        /// Path of the field, such as `inputs[camera].shape`.
        field: String,
        /// What would be right, in words.
        expected: String,
        /// What was found, in words.
        found: String,
    },
    /// A content key's file is no JSON Web Key of the one kind that is read here.
    #[error("not a content key: {reason}; it is a JSON Web Key with \"kty\": \"oct\", \"alg\": \"A256GCM\" and 32 bytes as \"k\"")]
    ContentKeyMalformed {
        /// What is wrong with it; never a part of the key.
        reason: &'static str,
    },
    /// An encrypted bundle without its content key.
    #[error(
        "the bundle is encrypted ({method}) and no content key was given: the Director brings it to each vehicle that it assigns the release, people name the file that `switchback pack --encrypt` wrote"
    )]
    ContentKeyMissing {
        /// How the bundle is encrypted.
        method: EncryptionMethod,
    },
    /// A content key for a bundle that is not encrypted. Whoever brings one means that nobody else can read the bundle.
    #[error("a content key was given for a bundle that is not encrypted: use none, or find out who packed it without --encrypt")]
    ContentKeyUnneeded,
    /// A chunk of an encrypted bundle is the signed one, and was encrypted under another key than the one that was given.
    #[error(
        "chunk {chunk} is the signed one but was not encrypted under the content key that was given: each bundle has its own, use the one that was made with it"
    )]
    ContentKeyWrong {
        /// Number of the chunk.
        chunk: usize,
    },
    /// A delta's index is malformed, outside its limits, or does not fit the full index that it names.
    #[error("delta index: {field} is {found}, expected {expected}")]
    DeltaIndex {
        /// Name of the field.
        field: String,
        /// What would be right, in words.
        expected: String,
        /// What was found, in words.
        found: String,
    },
    /// A delta that restores another bundle.
    #[error("the delta belongs to the chunk index with SHA-256 {expected}, this one has {found}")]
    DeltaOther {
        /// Digest that the delta names.
        expected: Sha256Digest,
        /// Digest of the index that was given.
        found: Sha256Digest,
    },
    /// A delta from another release than the one that is installed.
    #[error(
        "the delta starts from release {expected_counter} (chunk index {expected}), installed is release {found_counter} (chunk index {found}): \
         take a delta from that one, or the full bundle"
    )]
    DeltaBase {
        /// Index of the base that the delta names.
        expected: Sha256Digest,
        /// Release counter of the base.
        expected_counter: u64,
        /// Index of the installed release.
        found: Sha256Digest,
        /// Release counter of the installed release.
        found_counter: u64,
    },
    /// The stored bytes of a delta chunk are the signed ones, but no acceptable segment map, or not one from the installed files.
    #[error("delta chunk {chunk} cannot be decoded from the installed files: {reason}")]
    DeltaDecode {
        /// Number of the chunk.
        chunk: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file of the installed release could not be read.
    #[error("delta chunk {chunk}: file {file} of the base cannot be read: {reason}")]
    BaseUnreadable {
        /// Number of the chunk.
        chunk: usize,
        /// Position of the file in the delta's list.
        file: usize,
        /// What the reader says.
        reason: String,
    },
    /// What a delta chunk restores is not what the full bundle has there.
    #[error(
        "delta chunk {chunk} restores SHA-256 {found}, the full index says {expected}: the installed files are damaged or not those that the \
         delta was made from"
    )]
    DeltaResult {
        /// Number of the chunk.
        chunk: usize,
        /// Digest in the full index.
        expected: Sha256Digest,
        /// Digest of what was restored.
        found: Sha256Digest,
    },
    /// zstd refused to work for want of memory or for an internal reason; not the bundle's fault.
    #[error("zstd: {reason}")]
    Zstd {
        /// What zstd says.
        reason: String,
    },
}

impl BundleError {
    /// Stable number for the C interface and the fleet log; never reused.
    pub fn number(&self) -> u32 {
        match self {
            Self::IndexLength { .. } => 200,
            Self::IndexMagic { .. } => 201,
            Self::IndexFormat { .. } => 202,
            Self::IndexHeader { .. } => 203,
            Self::IndexRow { .. } => 204,
            Self::ChunkUnknown { .. } => 210,
            Self::ChunkLength { .. } => 211,
            Self::ChunkHash { .. } => 212,
            Self::ChunkDecode { .. } => 213,
            Self::RawLength { .. } => 214,
            Self::RawHash { .. } => 215,
            Self::ChunkOrder { .. } => 220,
            Self::ArchiveBytes { .. } => 221,
            Self::ArchiveLength { .. } => 222,
            Self::ArchiveTruncated { .. } => 223,
            Self::FileHash { .. } => 224,
            Self::FileLength { .. } => 225,
            Self::FileCount { .. } => 226,
            Self::ManifestHash { .. } => 230,
            Self::ManifestLength { .. } => 231,
            Self::ManifestJson { .. } => 232,
            Self::ManifestFormat { .. } => 233,
            Self::Manifest { .. } => 234,
            Self::ContractVersion { .. } => 240,
            Self::ContractJson { .. } => 241,
            Self::Contract { .. } => 242,
            Self::Zstd { .. } => 250,
            Self::ContentKeyMalformed { .. } => 260,
            Self::ContentKeyMissing { .. } => 261,
            Self::ContentKeyUnneeded => 262,
            Self::ContentKeyWrong { .. } => 263,
            Self::DeltaIndex { .. } => 270,
            Self::DeltaOther { .. } => 271,
            Self::DeltaBase { .. } => 272,
            Self::DeltaDecode { .. } => 273,
            Self::BaseUnreadable { .. } => 274,
            Self::DeltaResult { .. } => 275,
        }
    }

    /// Stable name, as the fleet log shows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::IndexLength { .. } => "index_length",
            Self::IndexMagic { .. } => "index_magic",
            Self::IndexFormat { .. } => "index_format",
            Self::IndexHeader { .. } => "index_header",
            Self::IndexRow { .. } => "index_row",
            Self::ChunkUnknown { .. } => "chunk_unknown",
            Self::ChunkLength { .. } => "chunk_length",
            Self::ChunkHash { .. } => "chunk_hash",
            Self::ChunkDecode { .. } => "chunk_decode",
            Self::RawLength { .. } => "raw_length",
            Self::RawHash { .. } => "raw_hash",
            Self::ChunkOrder { .. } => "chunk_order",
            Self::ArchiveBytes { .. } => "archive_bytes",
            Self::ArchiveLength { .. } => "archive_length",
            Self::ArchiveTruncated { .. } => "archive_truncated",
            Self::FileHash { .. } => "file_hash",
            Self::FileLength { .. } => "file_length",
            Self::FileCount { .. } => "file_count",
            Self::ManifestHash { .. } => "manifest_hash",
            Self::ManifestLength { .. } => "manifest_length",
            Self::ManifestJson { .. } => "manifest_json",
            Self::ManifestFormat { .. } => "manifest_format",
            Self::Manifest { .. } => "manifest",
            Self::ContractVersion { .. } => "contract_version",
            Self::ContractJson { .. } => "contract_json",
            Self::Contract { .. } => "contract",
            Self::Zstd { .. } => "zstd",
            Self::ContentKeyMalformed { .. } => "content_key_malformed",
            Self::ContentKeyMissing { .. } => "content_key_needed",
            Self::ContentKeyUnneeded => "content_key_unneeded",
            Self::ContentKeyWrong { .. } => "content_key_wrong",
            Self::DeltaIndex { .. } => "delta_index",
            Self::DeltaOther { .. } => "delta_of_another_bundle",
            Self::DeltaBase { .. } => "delta_from_another_base",
            Self::DeltaDecode { .. } => "delta_decode",
            Self::BaseUnreadable { .. } => "delta_base_unreadable",
            Self::DeltaResult { .. } => "delta_result",
        }
    }
}
