//! Limits on what a repository can make us read, each with its reason.
//!
//! The byte limits are those of python-tuf, so that every repository that the reference client reads is read here; a listed length
//! replaces them where the metadata gives one.

/// Longest root metadata, bytes. Ours with ten keys has 3 kB; a post-quantum or RSA root of many keys stays far below.
pub const ROOT_BYTES_MAX: u64 = 512_000;

/// Longest timestamp metadata, bytes. Ours has 500. It is the one file whose length nobody announces, and every poll reads it.
pub const TIMESTAMP_BYTES_MAX: u64 = 16_384;

/// Longest snapshot metadata, bytes, when the timestamp does not list its length: some 14,000 delegated roles.
pub const SNAPSHOT_BYTES_MAX: u64 = 2_000_000;

/// Longest Targets metadata, bytes, when the snapshot does not list its length: some 10,000 releases in one role.
pub const TARGETS_BYTES_MAX: u64 = 5_000_000;

/// Most new roots that one check follows. A vehicle parked for twenty years of monthly rotations meets 240; what it followed is kept,
/// so that the next check goes on from there.
pub const ROOT_STEPS_MAX: u32 = 256;

/// Most delegated roles that one search visits. A search for `ultra/...` needs one or two.
pub const DELEGATED_ROLES_MAX: usize = 32;

/// Longest image for a Secondary that comes with a release, bytes. A Primary holds it in memory while it hands it on; a calibration
/// has kilobytes, the firmware of a camera a few megabytes.
pub const COMPANION_BYTES_MAX: u64 = 16 << 20;
