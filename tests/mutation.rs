//! The list of `mutation/mutants.txt` is held against the sources, so that `mutation/run.py` finds every check that it switches off.

use std::{collections::BTreeSet, fs};

use switchback_tests::workspace;

#[test]
fn every_check_that_can_be_switched_off_is_where_the_list_says() {
    let list = fs::read_to_string(workspace().join("tests/mutation/mutants.txt")).unwrap();
    let mut names = BTreeSet::new();
    for entry in list.split("\n[").skip(1) {
        let (name, rest) = entry.split_once("] ").unwrap();
        assert!(names.insert(name), "{name} is listed twice");
        let field = |key: &str| rest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let file = field("file").unwrap_or_else(|| panic!("{name} names no file"));
        let text = fs::read_to_string(workspace().join(file)).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        let from = field("from").unwrap_or_else(|| panic!("{name} says nothing to switch off"));
        let place = match field("after") {
            None => {
                assert_eq!(text.matches(from).count(), 1, "{name}: {from:?} must stand once in {file}");
                continue;
            }
            Some(after) => text.find(after).unwrap_or_else(|| panic!("{name}: no {after:?} in {file}")),
        };
        assert!(text[place..].contains(from), "{name}: no {from:?} in {file} behind the place that the list names");
    }
    assert!(names.len() > 50, "{} checks are too few to say that the scenarios bite", names.len());
}
