//! The corpora and some thousand mutants of each, in so little memory that no input can have chosen how much.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

/// Address space of the whole run, KiB. Programs, stacks and the decoder's buffers need about 60 MiB; what an input of 64 KiB is
/// turned into has to fit in the rest.
const MEMORY_KIB: u32 = 192 << 10;

fn check(target: &str, mutants: u32) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v $1 && shift && exec \"$@\"", "sh"])
        .arg(MEMORY_KIB.to_string())
        .args([env!("CARGO_BIN_EXE_switchback-fuzz"), target, &mutants.to_string()])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{target}: {}\n{out}{err}", output.status);
    let accepted: u32 = out.rsplit_once(", ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(accepted > mutants / 1_000, "next to nothing is accepted, so next to nothing was asked: {out}");
}

#[test]
fn metadata_of_any_bytes_is_read_or_refused() {
    check("metadata", 5_000);
}

#[test]
fn repositories_that_hold_anything_lead_to_an_end() {
    check("update", 2_000);
}

#[test]
fn reports_of_any_bytes_are_read_or_refused() {
    check("reports", 4_000);
}

#[test]
fn an_index_of_any_bytes_is_read_or_refused() {
    check("index", 20_000);
}

#[test]
fn a_bundle_of_any_bytes_is_read_or_refused() {
    check("bundle", 2_000);
}

#[test]
fn a_delta_of_any_bytes_restores_the_bundles_own_or_nothing() {
    check("delta", 2_000);
}

#[test]
fn an_index_of_a_delta_of_any_bytes_is_read_or_refused() {
    check("delta_index", 20_000);
}

#[test]
fn keys_requests_and_names_of_any_bytes_are_read_or_refused() {
    check("keys", 10_000);
}

#[test]
fn an_encrypted_key_of_any_bytes_costs_no_more_than_allowed() {
    check("encrypted-keys", 5_000);
}
