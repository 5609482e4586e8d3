//! The chunk index: one meaning, one text, and sums that hold.

use switchback_signing::bundle::{
    ChunkIndex,
    index::{CHUNK_RAW_MAX, CHUNK_STORED_MAX},
};

use crate::Verdict;

pub(crate) fn run(input: &[u8]) -> Verdict {
    let Ok(index) = ChunkIndex::parse(input) else { return Verdict::Refused };
    assert_eq!(index.to_bytes(), input, "two texts of one index");
    let (mut stored, mut raw) = (0, 0);
    for (number, row) in index.rows().iter().enumerate() {
        assert_eq!((row.number(), row.stored_offset(), row.raw_offset()), (number, stored, raw));
        assert!(
            (1..=CHUNK_STORED_MAX).contains(&(row.stored_length() as usize)) && (1..=CHUNK_RAW_MAX).contains(&(row.raw_length() as usize))
        );
        stored += u64::from(row.stored_length());
        raw += u64::from(row.raw_length());
        // Whatever the digests are: these bytes are either of the right length and digest, or refused.
        let taken = &input[..input.len().min(row.stored_length() as usize)];
        if let Ok(verified) = index.verify_stored(number, taken) {
            assert_eq!(verified.stored(), taken);
        }
    }
    assert_eq!((index.bundle_length(), index.tar_length()), (stored, raw));
    assert!(index.row(index.rows().len()).is_err());
    Verdict::Accepted
}
