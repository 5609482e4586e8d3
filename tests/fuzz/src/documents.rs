//! Signed files one by one: TUF's four roles and the envelope around everything.

use core::fmt::Debug;

use switchback_signing::{
    metadata::{
        Document, Root, Signed, Snapshot, Targets, Timestamp, add_signature,
        json::{self, canonical},
        merge_signatures, sign,
    },
    trust::{Repository, RepositoryMap},
};

use crate::{Verdict, seeds};

/// Longest file that is read.
pub(crate) const BYTES_MAX: usize = 128 << 10;

pub(crate) fn run(input: &[u8]) -> Verdict {
    one_value_one_text(input);
    envelope(input);
    let read = [kept::<Root>(input), kept::<Timestamp>(input), kept::<Snapshot>(input), kept::<Targets>(input)];
    let roles = read.iter().filter(|read| **read == Verdict::Accepted).count();
    assert!(roles <= 1, "one file is metadata of two roles");
    (roles == 1 || map(input)).into()
}

/// A repository map that is read, written and read is the same, and both repositories are in it.
fn map(input: &[u8]) -> bool {
    let Ok(map) = RepositoryMap::parse(input) else { return false };
    assert_eq!(RepositoryMap::parse(&map.to_bytes()).expect("what we write we read"), map);
    assert!([Repository::Director, Repository::Image].iter().all(|repository| !map.urls(*repository).is_empty()));
    true
}

fn one_value_one_text(input: &[u8]) {
    let Ok(json) = json::parse(input, BYTES_MAX) else { return };
    let written = json::to_bytes(&json);
    let again = json::parse(&written, usize::MAX).expect("what we write we read");
    assert_eq!(again, json);
    assert_eq!(canonical(&again), canonical(&json));
}

/// A signature that is added signs what was signed before, and two copies with a signature each make one with both.
fn envelope(input: &[u8]) {
    let [one, other] = [seeds::key(1), seeds::key(2)];
    let Ok(first) = add_signature(input, BYTES_MAX, &one) else { return };
    let second = add_signature(input, BYTES_MAX, &other).expect("the first could sign it");
    let again = add_signature(&first, usize::MAX, &one).expect("a signature can be made anew");
    assert_eq!(again, first, "an Ed25519 signature is the same each time");
    let both = merge_signatures(&first, &second, usize::MAX, |_| true).expect("both sign the same");
    let count = |bytes: &[u8]| match json::parse(bytes, usize::MAX).expect("what we write we read").member("signatures") {
        Some(json::Json::Array(entries)) => entries.len(),
        other => panic!("signatures are {other:?}"),
    };
    assert!(count(&both) <= count(&first) + 1 && count(&both) >= count(&first));
    assert_eq!(merge_signatures(&both, &second, usize::MAX, |_| true).expect("both sign the same"), both, "nothing is added twice");
}

fn kept<T: Document + PartialEq + Debug>(input: &[u8]) -> Verdict {
    let Ok(read) = Signed::<T>::parse(input, BYTES_MAX) else { return Verdict::Refused };
    written(&read);
    Verdict::Accepted
}

/// What is read and written is the same, unknown fields included, and from then on it is the same bytes. (What was read may have said
/// the same in other words: an older `spec_version`, an empty list in the place of none.)
pub(crate) fn written<T: Document + PartialEq + Debug>(read: &Signed<T>) {
    // What we sign is brought into Unicode normalization form C, in which two strings may be one. ASCII has no other form.
    if !read.message().is_ascii() {
        return;
    }
    let written = sign(&read.signed, &[]).expect("nobody signs");
    let again = Signed::<T>::parse(&written, usize::MAX).expect("what we write we read");
    assert_eq!(again.signed, read.signed);
    assert_eq!(sign(&again.signed, &[]).expect("nobody signs"), written);
}
