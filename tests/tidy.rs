//! The rules of `ARCHITECTURE.md` that a machine can check.
//!
//! A new arrow, a new dependency of the core or a new exception is made here and in `ARCHITECTURE.md` in one commit that says why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Rust sources below `folder`, with their text.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![base().join(folder)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name == "target") {
                continue;
            }
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// Lines of code: without comments and without the tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split("#[cfg(test)]")
        .next()
        .unwrap_or_default()
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

fn refuse(folder: &str, words: &[&str], why: &str) {
    refuse_except(folder, &[], words, why);
}

fn refuse_except(folder: &str, except: &[&str], words: &[&str], why: &str) {
    let mut offences = Vec::new();
    for (path, text) in sources(folder) {
        let relative = path.strip_prefix(base()).unwrap().to_string_lossy().into_owned();
        if except.iter().any(|prefix| relative.starts_with(prefix)) || relative.contains("/tests") {
            continue;
        }
        for (number, line) in code(&text) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                offences.push(format!("{relative}:{number}: {word}"));
            }
        }
    }
    assert!(offences.is_empty(), "{why}:\n{}", offences.join("\n"));
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(base())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Package name -> names of its dependencies that are built into a product (tests and build scripts may see more).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    metadata()["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let names = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn crates_know_only_those_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = [
        ("switchback-signing", &[][..]),
        ("switchback-onnx", &[]),
        ("switchback-sdk", &["switchback-signing", "switchback-onnx"]),
        ("switchback-ffi", &["switchback-sdk"]),
        // The same source once more, with test hooks.
        ("switchback-ffi-hooks", &["switchback-sdk"]),
        ("switchback-ota-server", &["switchback-signing"]),
        // `pack` runs the model once, to record what it answers and to refuse one that does not match its contract.
        ("switchback-cli", &["switchback-signing", "switchback-onnx"]),
        ("switchback-road-sim", &[]),
        ("switchback-rust-vehicle", &["switchback-sdk", "switchback-road-sim"]),
        ("switchback-demo", &["switchback-road-sim"]),
        ("switchback-fuzz", &["switchback-signing"]),
    ]
    .into();
    for (package, names) in dependencies() {
        if package == "switchback-tests" {
            continue;
        }
        let allowed = allowed.get(package.as_str()).unwrap_or_else(|| panic!("{package} has no place in the picture"));
        for name in names.iter().filter(|name| name.starts_with("switchback-")) {
            assert!(allowed.contains(&name.as_str()), "{package} must not depend on {name}");
        }
    }
}

#[test]
fn the_core_depends_on_nothing_but_this_list() {
    // p256, pkcs8, ring and spki only with features; vehicles have p256 on unless told otherwise, the others off (docs/adr/0005 and 0006).
    let expected = [
        "aes-gcm",
        "ed25519-dalek",
        "hkdf",
        "hpke",
        "p256",
        "pkcs8",
        "ring",
        "serde",
        "serde_json",
        "sha2",
        "spki",
        "thiserror",
        "unicode-normalization",
        "zeroize",
        "zstd",
    ];
    let found = &dependencies()["switchback-signing"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// A folder of its own, because other features in the common one would build everything else twice.
#[test]
fn the_core_builds_with_alloc_only() {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--package", "switchback-signing", "--no-default-features", "--target-dir", "target/alloc-only"])
        .current_dir(base())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_core_has_no_clock_file_socket_thread_or_environment() {
    refuse(
        "signing/src",
        &[
            "std::fs",
            "std::net",
            "std::thread",
            "std::env",
            "std::process",
            "SystemTime",
            "Instant",
            "async fn",
            "static mut",
            "OnceLock",
            "thread_local",
        ],
        "signing is a function of its arguments",
    );
}

#[test]
fn the_parts_of_the_vehicle_do_not_know_each_other() {
    let parts = ["fetch", "store", "engine", "update", "vehicle", "drive"];
    for (part, may_know) in
        [("fetch", &["fetch"][..]), ("store", &["store"]), ("engine", &["engine", "drive"]), ("update", &["update"]), ("drive", &["drive"])]
    {
        let words: Vec<String> = parts.iter().filter(|other| !may_know.contains(other)).map(|other| format!("crate::{other}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        refuse(&format!("sdk/src/{part}"), &words, "only `vehicle` joins the parts");
    }
    refuse(
        "sdk/src/update",
        &["std::fs", "std::net", "std::thread", "SystemTime", "Instant", "reqwest"],
        "`update` decides and does nothing itself",
    );
}

#[test]
fn the_decisions_of_the_server_are_pure() {
    for part in ["rollout", "gate", "director"] {
        let path = format!("ota-server/src/{part}");
        let path = if base().join(&path).exists() { path } else { format!("{path}.rs") };
        refuse(
            &path,
            &["sqlx", "axum", "tokio", "std::fs", "std::net", "SystemTime", "Instant", "async fn"],
            "rollout, gate and director decide and do nothing themselves",
        );
    }
    refuse_except("ota-server/src", &["ota-server/src/registry"], &["sqlx"], "SQL lives only in `registry`");
    refuse_except("ota-server/src", &["ota-server/src/api"], &["axum"], "HTTP types live only in `api`");
}

#[test]
fn unsafe_code_stays_in_two_crates() {
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if matches!(name, "switchback-ffi" | "switchback-onnx") {
            continue;
        }
        for target in package["targets"].as_array().unwrap() {
            let kind = target["kind"][0].as_str().unwrap();
            if !matches!(kind, "lib" | "bin") {
                continue;
            }
            let path = target["src_path"].as_str().unwrap();
            let text = fs::read_to_string(path).unwrap();
            assert!(text.contains("#![forbid(unsafe_code)]"), "{path} does not forbid unsafe code");
        }
    }
}

#[test]
fn public_items_of_what_partners_link_are_documented() {
    for root in ["signing/src/lib.rs", "sdk/src/lib.rs", "sdk/onnx/src/lib.rs", "sdk/ffi/src/lib.rs"] {
        let text = fs::read_to_string(base().join(root)).unwrap();
        assert!(text.contains("#![deny(missing_docs)]"), "{root} does not deny missing docs");
    }
}

#[test]
fn a_file_is_one_idea() {
    for folder in ["signing", "sdk", "ota-server", "tests", "examples"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(lines <= 600, "{} has {lines} lines: look for the second idea", path.display());
        }
    }
}

#[test]
fn the_top_level_shows_the_system() {
    let expected = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "Makefile",
        "README.md",
        "docs",
        "examples",
        "include",
        "ota-server",
        "sdk",
        "signing",
        "tests",
    ];
    let output = Command::new("git").args(["ls-tree", "--name-only", "HEAD"]).current_dir(base()).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let found: Vec<&str> = listed.lines().filter(|name| !name.starts_with('.') && *name != "clippy.toml" && *name != "deny.toml").collect();
    assert_eq!(found, expected);
}

#[test]
fn the_architecture_fits_on_a_page() {
    let text = fs::read_to_string(base().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() < 150);
}

/// Whoever has to review the core wants to know how much there is; a figure that nobody checks is soon of another year.
#[test]
fn the_architecture_tells_how_long_the_core_is() {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = |text: &str| text.split("#[cfg(test)]").next().unwrap_or_default().lines().filter(is_code).count();
    let files = ["signing/src/keys", "signing/src/metadata", "signing/src/trust"].into_iter().flat_map(sources);
    let files = files.filter(|(path, _)| !path.to_string_lossy().contains("/tests"));
    let found: usize = files.map(|(_, text)| lines(&text)).sum();
    let page = fs::read_to_string(base().join("ARCHITECTURE.md")).unwrap();
    let (before, _) = page.split_once(" lines of code) needs `alloc` only").unwrap();
    let told: usize = before.rsplit(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!(found.abs_diff(told) * 20 <= found, "the core has {found} lines of code, ARCHITECTURE.md tells {told}");
}

/// A table that maps requirements to tests is worth nothing once a test has another name.
#[test]
fn every_test_that_a_table_names_exists() {
    let all: String = ["signing", "sdk", "ota-server", "tests"].iter().flat_map(|folder| sources(folder)).map(|(_, text)| text).collect();
    let table = fs::read_to_string(base().join("docs/uptane.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| U")).collect();
    assert_eq!(rows.len(), 60);
    for row in rows {
        let [_, number, _, state, code, tests, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert_eq!(state.starts_with("missing"), code.is_empty() && tests.is_empty(), "{number}");
        for test in tests.split(", ").filter(|test| !test.is_empty()) {
            assert!(all.contains(&format!("fn {}(", test.trim_matches('`'))), "{number}: there is no test {test}");
        }
    }
}

/// Each attack of the list has its row, and each row has the tests that begin with its number, no more and no fewer.
#[test]
fn every_attack_has_its_tests() {
    let text: String = sources("tests/attacks").into_iter().map(|(_, text)| text).collect();
    let named = |line: &str| line.trim().strip_prefix("fn ").and_then(|rest| rest.split('(').next()).map(str::to_owned);
    let is_attack = |name: &String| name.starts_with('a') && name.get(1..3).is_some_and(|number| number.parse::<u32>().is_ok());
    let written: BTreeSet<String> = text.lines().filter_map(named).filter(is_attack).collect();
    let all: String = ["signing", "sdk", "ota-server", "tests"].iter().flat_map(|folder| sources(folder)).map(|(_, text)| text).collect();
    let lessons = fs::read_to_string(base().join("docs/lessons.md")).unwrap();
    let rows: Vec<&str> = lessons.lines().filter(|line| line.starts_with("| A") && !line.starts_with("| Attack")).collect();
    assert_eq!(rows.len(), 30);
    let mut listed = BTreeSet::new();
    for (row, number) in rows.into_iter().zip(1..) {
        let [_, name, _, _, tests, missing, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert_eq!(name, format!("A{number}"));
        assert!(!(tests.is_empty() && missing.is_empty()), "{name} has neither tests nor a word on what is missing");
        for test in tests.split(", ").filter(|test| !test.is_empty()).map(|test| test.trim_matches('`')) {
            assert!(all.contains(&format!("fn {test}(")), "{name}: there is no test {test}");
            if is_attack(&test.to_owned()) {
                assert!(test.starts_with(&format!("a{number:02}_")), "{test} stands in the row of {name}");
                listed.insert(test.to_owned());
            }
        }
    }
    assert_eq!(written, listed, "docs/lessons.md and tests/attacks name different tests");
}

#[test]
fn no_test_is_switched_off() {
    for folder in ["signing", "sdk", "ota-server", "tests", "examples"] {
        for (path, text) in sources(folder) {
            // Spelled in two halves so that this file does not find itself.
            for word in [concat!("#[ign", "ore"), concat!("todo", "!("), concat!("unimplemented", "!(")] {
                assert!(!text.contains(word), "{} contains {word}", path.display());
            }
        }
    }
}
