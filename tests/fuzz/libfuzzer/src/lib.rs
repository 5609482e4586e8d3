//! The fuzz targets under libFuzzer: `docs/fuzzing.md` has the command.
//!
//! A workspace of its own, so that what only a long run needs (libFuzzer, a C++ compiler) is no part of anything that is built for a
//! vehicle, a server or a test. Its programs export a C function, which is why they stand apart from the crate with the targets.

use libfuzzer_sys::Corpus;
use switchback_fuzz::Target;

/// Runs a target. Every input that brings new coverage is kept, refused or not: most of what a parser does is to refuse.
pub fn run(name: &str, input: &[u8]) -> Corpus {
    match Target::named(name) {
        Some(target) => {
            (target.run)(input);
            Corpus::Keep
        }
        None => panic!("there is no target {name}"),
    }
}
