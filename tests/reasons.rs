//! One table of every reason that a vehicle may report: `golden/v1/reasons.txt`, number by number with its name and who is to blame.
//!
//! The vehicle's side gives the numbers, the server's gate judges by them, and neither knows the other: both are held against the table.
//! Numbers are in fleet logs and in partners' C programs, so the table is only ever added to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use switchback_ota_server::gate;
use switchback_sdk::engine::RollBackReason;
use switchback_tests::workspace;

use crate::tidy::sources;

/// Where the vehicle's side gives its numbers: `Self::Variant { .. } => (300, "name")`, `Self::Variant { .. } => 200` with the name in a
/// second match, or `const NAME: u32 = 503`.
const SOURCES: [&str; 12] = [
    "signing/src/trust/facts.rs",
    "signing/src/bundle/error.rs",
    "sdk/src/store/error.rs",
    "sdk/src/store/mod.rs",
    "sdk/src/fetch/error.rs",
    "sdk/src/fetch/offline.rs",
    "sdk/src/update/mod.rs",
    "sdk/src/vehicle/error.rs",
    "sdk/src/vehicle/reason.rs",
    "sdk/src/engine/error.rs",
    "sdk/src/drive/error.rs",
    "sdk/onnx/src/error.rs",
];

/// Reasons have at least three digits; what has fewer is no reason.
const FIRST: u32 = 100;

#[test]
fn every_reason_has_its_number_its_name_and_the_gates_judgement_for_good() {
    let table = fs::read_to_string(workspace().join("tests/golden/v1/reasons.txt")).unwrap();
    let mut given: BTreeMap<u32, String> = BTreeMap::new();
    for source in SOURCES {
        for (number, name) in numbers(&fs::read_to_string(workspace().join(source)).unwrap()) {
            let twice = given.insert(number, name.clone());
            assert!(twice.is_none(), "{source}: {name} has number {number}, which is {}'s", twice.unwrap_or_default());
        }
    }
    use RollBackReason::{Deadline, Envelope, Inputs, NotFinite, Requested, RunFailed};
    given.extend([RunFailed, NotFinite, Envelope, Deadline, Inputs, Requested].map(|cause| (cause.number().into(), format!("{cause:?}"))));
    let found: String = given.iter().map(|(number, name)| format!("{number} {name} {:?}\n", gate::blame(Some(*number)))).collect();
    let expected: String = table.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert!(found == expected, "reasons differ from golden/v1/reasons.txt; they are now\n{found}");
}

/// No number without a test that asks for it, by the number or by its name: what is new in the table is missing here until somebody has
/// written one. Whether that test brings the error about is for its reader to see, and a number of three digits may also stand somewhere
/// for something else.
#[test]
fn every_reason_is_named_by_a_test() {
    let words = named_in_tests();
    let table = fs::read_to_string(workspace().join("tests/golden/v1/reasons.txt")).unwrap();
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let missing: Vec<&str> = rows.filter(|row| row.split(' ').take(2).all(|word| !words.contains(word))).collect();
    assert!(missing.is_empty(), "no test names these reasons: {missing:#?}");
}

/// The numbers in the code of all tests, and the names in quotes.
fn named_in_tests() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (path, source) in ["signing", "sdk", "ota-server", "tests"].into_iter().flat_map(sources) {
        let is_test =
            path.strip_prefix(workspace()).unwrap().components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
        let code = if is_test { Some(source.as_str()) } else { source.split_once("#[cfg(test)]").map(|(_, tests)| tests) };
        let code: String = code.unwrap_or_default().lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        words.extend(code.split(|char| !word(char)).filter(|word| word.parse::<u32>().is_ok()).map(str::to_owned));
        words.extend(code.split('"').map(str::to_owned));
    }
    words
}

/// Numbers and names of one source, in its order. A number whose name is nowhere is called as its variant.
fn numbers(source: &str) -> Vec<(u32, String)> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let arms = || code.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => "));
    let variant = |pattern: &str| pattern.split([' ', '(']).next().unwrap_or_default().to_owned();
    let quoted = |text: &str| text.split('"').nth(1).map(str::to_owned);
    let names: BTreeMap<String, String> = arms().filter_map(|(pattern, value)| Some((variant(pattern), quoted(value)?))).collect();
    let digits = |text: &str| text.trim_start_matches('(').split([',', ';']).next().and_then(|digits| digits.parse().ok());
    let by_arm = arms().filter_map(|(pattern, value)| {
        let name = variant(pattern);
        Some((digits(value)?, names.get(&name).cloned().unwrap_or(name)))
    });
    let by_const = code.lines().filter_map(|line| {
        let (name, value) = line.split_once("const ")?.1.split_once(": u32 = ")?;
        Some((digits(value)?, name.to_lowercase()))
    });
    by_arm.chain(by_const).filter(|(number, _)| *number >= FIRST).collect()
}
