//! `tuf-client uptane` against repositories that the reference implementation of TUF has made: what must work, and what must be refused.

use std::path::Path;

use switchback_tests::programs::program;

use crate::python::TUF;

/// Every method of `tests/python/uptane_works.py` and `uptane_attacks.py` is a test; the attacks carry the numbers of docs/lessons.md.
fn passes(names: &str) {
    if TUF.are_installed() {
        let said = TUF.run("uptane_client.py", &[&program("tuf-client"), Path::new(names)]);
        assert!(said.contains("OK"), "{said}");
    }
}

#[test]
fn anybodys_repositories_are_read_and_what_they_assign_is_installed() {
    passes("Works");
}

#[test]
fn every_attack_that_a_repository_can_carry_is_refused_by_name() {
    passes("Attacks");
}
