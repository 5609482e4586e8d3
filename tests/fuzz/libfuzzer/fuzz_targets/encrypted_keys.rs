//! The target `encrypted-keys` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| -> libfuzzer_sys::Corpus { switchback_fuzz_guided::run("encrypted-keys", input) });
