//! The list of `mutation/mutants.txt` is held against the sources, so that `mutation/run.py` finds every check that it switches off, and
//! against the reasons that a vehicle may have to refuse something, so that no new one comes without an entry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use switchback_tests::workspace;

/// Reasons of verification: metadata and images, bundles, what is read back, what comes over the network or in a file, and what does not
/// belong together. The others say how a disk, a model or a driver fails.
const VERIFIES: [std::ops::RangeInclusive<u32>; 7] = [101..=299, 330..=339, 402..=406, 440..=441, 504..=504, 612..=612, 614..=616];

/// Where the Director's answers to reports have their names.
const REPORTS: &str = "signing/src/trust/report.rs";

struct Entry {
    name: String,
    text: String,
}

impl Entry {
    fn field(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    }
}

fn list() -> String {
    fs::read_to_string(workspace().join("tests/mutation/mutants.txt")).unwrap()
}

fn entries(list: &str) -> Vec<Entry> {
    // What the check is stands in the first line, in words that could be those of a field.
    let entry = |text: &str| Some((text.split_once("] ")?.0.to_owned(), text.split_once('\n')?.1.to_owned()));
    list.split("\n[").skip(1).map(|text| entry(text).map(|(name, text)| Entry { name, text }).unwrap()).collect()
}

#[test]
fn every_check_that_can_be_switched_off_is_where_the_list_says() {
    let (mut names, list) = (BTreeSet::new(), list());
    let entries = entries(&list);
    for entry in &entries {
        let name = &entry.name;
        assert!(names.insert(name.as_str()), "{name} is listed twice");
        let file = entry.field("file").unwrap_or_else(|| panic!("{name} names no file"));
        let text = fs::read_to_string(workspace().join(file)).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        let from = entry.field("from").unwrap_or_else(|| panic!("{name} says nothing to switch off"));
        match entry.field("after") {
            None => assert_eq!(text.matches(from).count(), 1, "{name}: {from:?} must stand once in {file}"),
            Some(after) => {
                let place = text.find(after).unwrap_or_else(|| panic!("{name}: no {after:?} in {file}"));
                assert!(text[place..].contains(from), "{name}: no {from:?} in {file} behind the place that the list names");
            }
        }
        assert!(entry.field("with").is_none_or(|with| with.contains("MUTANT")), "{name} would be off all the time");
    }
    let too = entries.iter().flat_map(|entry| entry.field("too").unwrap_or_default().split_whitespace().map(|too| (&entry.name, too)));
    for (name, too) in too {
        assert!(names.contains(too), "{name} goes with {too}, which is not listed");
    }
}

#[test]
fn every_reason_to_refuse_has_a_check_that_can_be_switched_off() {
    let (table, report) = ("tests/golden/v1/reasons.txt", REPORTS);
    let [table, report] = [table, report].map(|file| fs::read_to_string(workspace().join(file)).unwrap());
    let reason = |line: &str| {
        let (number, rest) = line.split_once(' ')?;
        let number: u32 = number.parse().ok()?;
        VERIFIES.iter().any(|range| range.contains(&number)).then(|| rest.split(' ').next().unwrap_or_default().to_owned())
    };
    let quoted = |line: &str| Some(line.split_once("=> \"manifest_")?.1.split('"').next()?.to_owned());
    let answers = report.lines().filter_map(quoted).map(|name| format!("manifest_{name}"));
    let reasons: BTreeSet<String> = table.lines().filter_map(reason).chain(answers).collect();
    assert!(reasons.len() > 80, "{reasons:?}");

    let list = list();
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for entry in entries(&list) {
        for name in entry.field("as").unwrap_or_default().split_whitespace() {
            named.insert(name.to_owned(), entry.name.clone());
        }
    }
    for line in list.lines().filter_map(|line| line.strip_prefix("# without ")) {
        let (name, why) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} does not say why"));
        let twice = named.insert(name.to_owned(), why.to_owned());
        assert!(twice.is_none(), "{name} has an entry, {}", twice.unwrap_or_default());
    }
    let named: BTreeSet<String> = named.into_keys().collect();
    let missing: Vec<_> = reasons.difference(&named).collect();
    assert!(missing.is_empty(), "no entry of mutants.txt says `as` one of these, and no line `# without` says why: {missing:?}");
    let unknown: Vec<_> = named.difference(&reasons).collect();
    assert!(unknown.is_empty(), "mutants.txt names reasons that there are not: {unknown:?}");
}
