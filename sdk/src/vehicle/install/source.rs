//! Where a chunk comes from, and for how long a way to get chunks is worth trying.

use switchback_signing::bundle::index::CHUNK_RAW_MAX;

/// Where the bytes of a chunk come from, cheapest first. Whatever fails, the next one is asked; the last is the bundle itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkSource {
    /// It follows from the manifest: what stands between two members.
    Manifest,
    /// An installed release has the same bytes.
    Installed,
    /// A delta restores it from an installed release.
    Delta,
    /// The network.
    Bundle,
}

impl ChunkSource {
    /// Whether bytes come over the network.
    pub(super) fn is_remote(self) -> bool {
        matches!(self, Self::Delta | Self::Bundle)
    }
}

/// Bytes of chunks by where they came from, as they are stored in the bundle: what was downloaded, and what did not have to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkBytes {
    /// Downloaded with the bundle.
    pub downloaded: u64,
    /// Downloaded with a delta, and what that restored in their place: [`ChunkBytes::restored`].
    pub delta: u64,
    /// Not downloaded, because a delta restored them.
    pub restored: u64,
    /// Not downloaded, because an installed release has the same bytes or the manifest says them.
    pub reused: u64,
    /// Should have been reused and were downloaded after all: the disk did not give back what was installed.
    pub not_reused: u64,
    /// Should have been restored by a delta and were downloaded after all.
    pub not_restored: u64,
}

impl ChunkBytes {
    /// A chunk of so many bytes in the bundle came, and took so many of the network where it is remote.
    pub(super) fn count(&mut self, source: ChunkSource, bytes: u64, remote_bytes: u64) {
        match source {
            ChunkSource::Manifest | ChunkSource::Installed => self.reused += bytes,
            ChunkSource::Delta => {
                self.delta += remote_bytes;
                self.restored += bytes;
            }
            ChunkSource::Bundle => self.downloaded += bytes,
        }
    }

    pub(in crate::vehicle) fn add(&mut self, other: Self) {
        self.downloaded += other.downloaded;
        self.delta += other.delta;
        self.restored += other.restored;
        self.not_restored += other.not_restored;
        self.reused += other.reused;
        self.not_reused += other.not_reused;
    }
}

/// The share of a release, one in so many, that may fail to come by a cheaper way before that way is given up.
const FAILURES_SHARE: u64 = 20;

/// A twentieth of a small release is less than a chunk; one bad sector is no reason to give up on a disk.
const FAILURES_BYTES_MIN: u64 = 4 * CHUNK_RAW_MAX as u64;

/// Patience with a way to get chunks that costs less than the bundle: one that fails again and again costs time with each of them.
#[derive(Debug)]
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn new(tar_length: u64) -> Self {
        Self { left: (tar_length / FAILURES_SHARE).max(FAILURES_BYTES_MIN) }
    }

    /// Counts a chunk that did not come; says whether the next one is worth a try.
    #[must_use]
    pub(super) fn failed(&mut self, raw_bytes: u32) -> bool {
        self.left = self.left.saturating_sub(raw_bytes.into());
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_given_up_after_a_twentieth_of_the_release_and_not_for_a_few_chunks() {
        const CHUNK: u32 = CHUNK_RAW_MAX as u32;
        for (chunks, failures) in [(1, 4), (80, 4), (200, 10), (6000, 300)] {
            let mut budget = Budget::new(chunks * u64::from(CHUNK));
            let tried = 1 + (0..chunks).take_while(|_| budget.failed(CHUNK)).count() as u64;
            assert_eq!(tried, failures.min(chunks + 1), "{chunks} chunks");
        }
    }
}
