//! `include/switchback.h` is what a partner reads. It is generated from `sdk/ffi` and committed, so that a change of the ABI is seen in review.

use std::{fs, path::Path, path::PathBuf};

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_committed_header_is_what_the_library_has() {
    let path = base().join("include/switchback.h");
    let generated = generate();
    if std::env::var_os("SWITCHBACK_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    let difference = committed.lines().zip(generated.lines()).position(|(left, right)| left != right);
    assert!(
        committed == generated,
        "include/switchback.h differs from sdk/ffi at line {}; make it with make header",
        difference.unwrap_or(0) + 1
    );
}

#[test]
fn every_function_of_the_header_is_allowed_and_no_other() {
    let listed = fs::read_to_string(base().join("sdk/ffi/symbols.txt")).unwrap();
    let listed: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    let header = fs::read_to_string(base().join("include/switchback.h")).unwrap();
    assert_eq!(functions(&header), listed, "sdk/ffi/symbols.txt is not the header's list of functions");
}

#[test]
fn every_constant_that_a_comment_of_the_header_names_is_defined() {
    let header = fs::read_to_string(base().join("include/switchback.h")).unwrap();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let defined: Vec<&str> = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split(|c| !is_name(c)).next()).collect();
    let named = header.split(|c| !is_name(c)).filter(|word| word.starts_with("SWB_"));
    // `SWB_FAULT_...` stands for a group.
    let is_defined = |name: &&str| defined.iter().any(|other| if name.ends_with('_') { other.starts_with(*name) } else { other == name });
    let undefined: Vec<&str> = named.filter(|name| !is_defined(name)).collect();
    assert!(undefined.is_empty(), "the header names what it does not define: {undefined:?}");
}

/// Names before an opening parenthesis at the start of a declaration, sorted.
fn functions(header: &str) -> Vec<&str> {
    let mut found: Vec<&str> = header
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()) && !line.starts_with("typedef"))
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("swb_"))
        .collect();
    found.sort_unstable();
    found
}

fn generate() -> String {
    let ffi = base().join("sdk/ffi");
    let config = cbindgen::Config::from_file(ffi.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_config(config).with_src(ffi.join("src/lib.rs")).generate().unwrap();
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    for_readers_of_c(&String::from_utf8(bytes).unwrap())
}

/// What cbindgen cannot be told: comments of one line on one line, no empty lines within a group of constants, C's words for a Rust heading.
fn for_readers_of_c(header: &str) -> String {
    let lines: Vec<&str> = header.lines().collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == "/**" && lines.get(at + 2).is_some_and(|end| end.trim() == "*/") {
            out.push(format!("{indent}/** {} */", lines[at + 1].trim().trim_start_matches("* ")));
            at += 3;
            continue;
        }
        let group = at.checked_sub(1).and_then(|before| constant_group(lines[before]));
        if !line.is_empty() || group.is_none() || group != next_constant_group(&lines[at + 1..]) {
            out.push(line.replace(" * # Safety", " * The caller promises:"));
        }
        at += 1;
    }
    out.join("\n") + "\n"
}

/// `SWB_FAULT_` of `#define SWB_FAULT_SEQUENCE 64`.
fn constant_group(line: &str) -> Option<&str> {
    line.strip_prefix("#define SWB_")?.split('_').next()
}

/// The group of the constant that stands here after its comment, if one does.
fn next_constant_group<'a>(lines: &[&'a str]) -> Option<&'a str> {
    if !lines.first()?.starts_with("/**") {
        return None;
    }
    let end = lines.iter().position(|line| line.trim() == "*/")?;
    constant_group(lines.get(end + 1)?)
}
