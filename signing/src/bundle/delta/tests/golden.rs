//! Deltas that were published once are read for good: what is in the folder is never changed.

use super::{whole::Pair, *};
use crate::{
    bundle::{
        ChunkIndex,
        delta::{Delta, DeltaIndex, FullBundle},
        tests::{noise, sample_of},
    },
    digest::Sha256Digest,
};

/// A release of which every kind of segment makes a part.
fn pair() -> Pair {
    let random = &mut Random(2027);
    let graph = weights(random, Element::Bf16, 9_000);
    let (inputs, outputs) = (weights(random, Element::I8, 5_000), noise(3, 700));
    let old = sample_of(vec![graph.clone(), inputs.clone(), outputs.clone()]);
    let mut new_inputs = trained(random, Element::I8, &inputs);
    new_inputs.extend_from_slice(b"written out");
    let mut new_outputs = outputs;
    new_outputs.extend(weights(random, Element::F16, 3_000));
    let new = sample_of(vec![trained(random, Element::Bf16, &graph), new_inputs, new_outputs]);
    let span = |offset, length, element, base: Option<usize>| {
        let base = base.map(|file| BasePlace { file, offset });
        Span { offset, length, element, base }
    };
    let spans = vec![
        vec![span(0, 18_000, Element::Bf16, Some(0))],
        vec![span(0, 5_000, Element::I8, Some(1))],
        vec![span(0, 700, Element::Bytes, Some(2)), span(700, 6_000, Element::F16, None)],
    ];
    Pair { old, new, key: None, spans }
}

#[test]
fn deltas_that_were_published_once_are_read_for_good() {
    let full = ChunkIndex::parse(include_bytes!("../../../../../tests/golden/v1/delta.full.index")).unwrap();
    let data = include_bytes!("../../../../../tests/golden/v1/delta.data");
    let index = DeltaIndex::parse(include_bytes!("../../../../../tests/golden/v1/delta.index")).unwrap();
    let mut pair = pair();
    pair.new.index = full;
    assert_eq!(index.data_sha256(), Sha256Digest::of(data));
    assert_eq!(Delta::new(index.clone(), &pair.new.index).unwrap().data_length(), data.len() as u64);
    assert!(pair.restore(index, data, &mut pair.base()) == Ok(pair.new.contents.clone()));
}

/// The file above is worth its name only while it has every kind.
#[test]
fn the_golden_delta_has_every_kind() {
    let (_, tallies, _) = pair().written(FullBundle::Absent, [7; 32]);
    assert!(tallies.iter().all(|tally| tally.raw > 0), "{tallies:?}");
}
