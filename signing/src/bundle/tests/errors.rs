//! Every refusal once, with its number and its text.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CONTRACT, Sample, archive, craft, encrypted::encrypted, noise, read, read_with, sample};
use crate::bundle::{
    BundleError, BundleWriter, ChunkDecoder, ChunkIndex, ContentKey, Contract, Manifest, TarReader, index::CHUNKS_MAX, writer::WriteError,
};

#[track_caller]
fn check<T: core::fmt::Debug>(result: Result<T, BundleError>, number: u32, text: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.number(), error.to_string().as_str()), (number, text));
}

/// The sample's index with bytes replaced.
fn index_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut index = sample().index.to_bytes();
    index[offset..offset + bytes.len()].copy_from_slice(bytes);
    index
}

#[test]
fn an_index_that_is_no_index_is_refused() {
    let parse = |bytes: &[u8]| ChunkIndex::parse(bytes);
    let whole = sample().index.to_bytes();
    check(parse(b"SWBX"), 200, "chunk index is 4 bytes long, its header says 96");
    check(parse(b""), 200, "chunk index is 0 bytes long, its header says 96");
    check(
        parse(&whole[..whole.len() - 1]),
        200,
        &format!("chunk index is {} bytes long, its header says {}", whole.len() - 1, whole.len()),
    );
    check(parse(&index_with(0, b"\x1f\x8b")), 201, "not a chunk index: it begins with [1f, 8b, 42, 58], not with `SWBX`");
    check(parse(&index_with(4, &[2])), 202, "chunk index format 2 is unknown, this release reads 1");
    check(parse(&index_with(6, &[2])), 203, "chunk index: the method of encryption is 2, expected 0 or 1");
    check(parse(&index_with(8, &[255; 4])), 203, "chunk index: the number of rows is 4294967295, expected 1 to 1048576");
    check(parse(&index_with(12, &[0; 4])), 203, "chunk index: the manifest's length is 0, expected 1 to 1048576");
    let tar_length = sample().index.tar_length();
    check(
        parse(&index_with(16, &[1, 0, 0, 0])),
        203,
        &format!("chunk index: the archive's length is 1, expected the sum of the rows, {tar_length}"),
    );
    let bundle_length = sample().index.bundle_length();
    check(
        parse(&index_with(24, &[1, 0, 0, 0])),
        203,
        &format!("chunk index: the bundle's length is 1, expected the sum of the rows, {bundle_length}"),
    );
}

#[test]
fn an_index_with_rows_outside_the_limits_is_refused() {
    let parse = |bytes: &[u8]| ChunkIndex::parse(bytes);
    check(parse(&index_with(96, &[0; 4])), 204, "chunk index row 0: stored length is 0, allowed is 1 to 66048");
    check(parse(&index_with(96, &[255; 4])), 204, "chunk index row 0: stored length is 4294967295, allowed is 1 to 66048");
    check(parse(&index_with(100, &[1, 0, 16, 0])), 204, "chunk index row 0: raw length is 1048577, allowed is 1 to 1048576");
    check(parse(&index_with(104, &[2])), 204, "chunk index row 0: filter is 2, allowed is 0 or 1");
    let mut no_rows = index_with(8, &[0; 4]);
    no_rows.truncate(96);
    check(parse(&no_rows), 203, &format!("chunk index: the number of rows is 0, expected 1 to {CHUNKS_MAX}"));
}

#[test]
fn chunks_that_are_not_the_signed_ones_are_refused() {
    let Sample { index, bundle, .. } = sample();
    let row = &index.rows()[0];
    let stored = &bundle[..row.stored_length() as usize];
    let chunks = index.rows().len();
    check(index.verify_stored(99, stored), 210, &format!("chunk 99 does not exist, the bundle has {chunks}"));
    check(
        index.verify_stored(0, &stored[1..]),
        211,
        &format!("chunk 0 has {} stored bytes, the index says {}", stored.len() - 1, stored.len()),
    );
    let error = index.verify_stored(0, &vec![0; stored.len()]).unwrap_err();
    assert_eq!(error.number(), 212);
    assert!(error.to_string().starts_with("chunk 0 has SHA-256 "), "{error}");
    assert!(error.to_string().ends_with(&format!(", the index says {}", row.stored_sha256())), "{error}");
    check(index.verify_raw(0, b"raw"), 214, "chunk 0 decodes to 3 bytes, the index says 512");
    let error = index.verify_raw(0, &[0; 512]).unwrap_err();
    assert_eq!(error.number(), 215);
    assert!(error.to_string().starts_with("chunk 0 decodes to SHA-256 076a27c79e5ace2a"), "{error}");
}

#[test]
fn a_frame_that_is_no_frame_is_refused() {
    let error = BundleError::ChunkDecode { chunk: 3, reason: "bytes follow the zstd frame" };
    check::<()>(Err(error), 213, "chunk 3 cannot be decoded: bytes follow the zstd frame");
    let error = BundleError::Zstd { reason: "Allocation error : not enough memory".into() };
    check::<()>(Err(error), 250, "zstd: Allocation error : not enough memory");
}

#[test]
fn keys_that_do_not_go_with_the_bundle_are_refused() {
    let key = ContentKey::from_bytes([1; 32]);
    let plain = sample();
    check(
        ChunkDecoder::new(&plain.index, Some(&key)).map(|_| ()),
        262,
        "a content key was given for a bundle that is not encrypted: use none, or find out who packed it without --encrypt",
    );
    let sealed = encrypted(&key);
    check(
        ChunkDecoder::new(&sealed.index, None).map(|_| ()),
        261,
        "the bundle is encrypted (A256GCM-chunks) and no content key was given: the Director brings it to each vehicle that it assigns the release, \
         people name the file that `switchback pack --encrypt` wrote",
    );
    check(
        read_with(&sealed.index, &sealed.bundle, Some(&ContentKey::from_bytes([2; 32]))),
        263,
        "chunk 0 is the signed one but was not encrypted under the content key that was given: each bundle has its own, use the one that was \
         made with it",
    );
}

#[test]
fn archives_that_are_not_the_manifests_are_refused() {
    let Sample { manifest, contents, index, bundle } = sample();
    let bytes = manifest.to_bytes().unwrap();
    let good = archive(&bytes, &manifest.files, &contents);
    let of = |archive: &[u8]| {
        let (index, bundle) = craft(&bytes, &[archive]);
        read(&index, &bundle)
    };

    let mut reader = TarReader::new(&index);
    let mut second = index.verify_raw(1, &bytes).unwrap();
    check(reader.next(&mut second).map(|_| ()), 220, "archive byte 0 is next, the chunk begins at 512");

    let mut renamed = good.clone();
    renamed[0] = b'M';
    check(of(&renamed), 221, "archive byte 0, before manifest.json: found 0x4d, the manifest calls for 0x6d");
    let mut no_end = good.clone();
    *no_end.last_mut().unwrap() = 1;
    let last = good.len() - 1;
    check(of(&no_end), 221, &format!("archive byte {last}, before the end: found 0x01, the manifest calls for 0x00"));

    let longer = [good.as_slice(), &[0; 512]].concat();
    check(of(&longer), 222, &format!("the index says {} archive bytes, the manifest's files make {}", longer.len(), good.len()));
    check(TarReader::new(&index).finish(), 223, &format!("the bundle ends at archive byte 0 of {}", good.len()));

    let other = archive(&bytes, &manifest.files, &[noise(9, 700), contents[1].clone(), contents[2].clone(), contents[3].clone()]);
    let error = of(&other).unwrap_err();
    assert_eq!(error.number(), 224);
    assert!(error.to_string().starts_with("model.onnx has SHA-256 "), "{error}");

    let mut shorter = manifest.clone();
    shorter.rxswin.push("A1".into());
    let other_manifest = shorter.to_bytes().unwrap();
    let (wrong_hash, _) = craft(&vec![b' '; other_manifest.len()], &[&archive(&other_manifest, &manifest.files, &contents)]);
    let (_, right_bundle) = craft(&other_manifest, &[&archive(&other_manifest, &manifest.files, &contents)]);
    let error = read(&wrong_hash, &right_bundle).unwrap_err();
    assert_eq!(error.number(), 230);
    assert!(error.to_string().starts_with("manifest.json has SHA-256 "), "{error}");
    assert!(read(&index, &bundle).is_ok());
}

#[test]
fn a_writer_refuses_files_that_are_not_the_manifests() {
    let Sample { manifest, contents, .. } = sample();
    let unwrap = |error: WriteError| match error {
        WriteError::Bundle(error) => error,
        other => panic!("{other}"),
    };
    let begin = || BundleWriter::new(Vec::new(), manifest.clone()).unwrap();
    let short = begin().file(&contents[0][1..]).map_err(unwrap);
    check(short, 225, "model.onnx has 699 bytes, the manifest says 700");
    let long = begin().file([contents[0].as_slice(), b"+"].concat().as_slice()).map_err(unwrap);
    check(long, 225, "model.onnx has 701 bytes, the manifest says 700");
    let other = begin().file(noise(7, 700).as_slice()).map_err(unwrap).unwrap_err();
    assert_eq!(other.number(), 224);
    check(begin().finish().map(|_| ()).map_err(unwrap), 226, "0 files were written, the manifest lists 4");
}

#[test]
fn a_writer_says_which_side_failed() {
    /// A disk with nothing behind it.
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("input/output error"))
        }
    }
    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no space left"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let Sample { manifest, .. } = sample();
    let unwritable = BundleWriter::new(Broken, manifest.clone()).map(|_| ()).unwrap_err();
    assert_eq!(unwritable.to_string(), "cannot write the bundle");
    let unreadable = BundleWriter::new(Vec::new(), manifest).unwrap().file(Broken).unwrap_err();
    assert_eq!(unreadable.to_string(), "cannot read model.onnx");
}

/// The sample's manifest with the value at `pointer` replaced.
fn manifest_with(pointer: &str, value: Value) -> Result<Manifest, BundleError> {
    let mut json: Value = serde_json::from_slice(&sample().manifest.to_bytes().unwrap()).unwrap();
    *json.pointer_mut(pointer).unwrap() = value;
    Manifest::parse(&serde_json::to_vec(&json).unwrap())
}

#[test]
fn manifests_outside_the_limits_are_refused() {
    check(Manifest::parse(&vec![b' '; (1 << 20) + 1]), 231, "manifest.json is 1048577 bytes long, allowed are 1048576");
    check(Manifest::parse(b"{"), 232, "manifest.json: EOF while parsing an object at line 1 column 1");
    check(manifest_with("/format", json!(2)), 233, "manifest format 2 is unknown, this release reads 1");
    check(manifest_with("/files", json!([])), 234, "manifest.json: files is 0, expected 1 to 4096 entries");
    check(
        manifest_with("/model", json!("other.onnx")),
        234,
        r#"manifest.json: model is "other.onnx", expected the path of a member in `files`"#,
    );
    check(
        manifest_with("/self_test/inputs", json!("in")),
        234,
        r#"manifest.json: self_test.inputs is "in", expected the path of a member in `files`"#,
    );
    check(manifest_with("/self_test/cases", json!(0)), 234, "manifest.json: self_test.cases is 0, expected 1 to 1024");
    check(
        manifest_with("/notes", json!({"e n": "model.onnx"})),
        234,
        r#"manifest.json: notes is "e n", expected BCP 47 language tags such as `en` or `zh-CN`"#,
    );
    check(
        manifest_with("/files/3/path", json!("model.onnx")),
        234,
        r#"manifest.json: files[3].path is "model.onnx", expected a path that no other member has"#,
    );
    check(
        manifest_with("/files/3/path", json!("model.onnx/part")),
        234,
        r#"manifest.json: files is "model.onnx/part" below it, expected "model.onnx" to be a file or a folder, not both"#,
    );
    check(
        manifest_with("/files/3/length", json!(8_589_934_592_u64)),
        234,
        "manifest.json: files[3].length is 8589934592, expected at most 8589934591",
    );
    check(
        manifest_with("/release/release_counter", json!(0)),
        234,
        "manifest.json: release.release_counter is 0, expected 1 to 9223372036854775807",
    );
    check(
        manifest_with("/release/tier", json!("Ultra SE")),
        234,
        r#"manifest.json: release.tier is "Ultra SE", expected 1 to 64 of [a-z0-9._-], the first a letter or digit"#,
    );
    check(
        manifest_with("/release/hardware_ids", json!(["a", "a"])),
        234,
        r#"manifest.json: release.hardware_ids[1] is "a", expected an id that is listed once"#,
    );
    check(manifest_with("/rxswin", json!(["\n"])), 234, r#"manifest.json: rxswin[0] is "\n", expected 1 to 64 printable ASCII characters"#);
    check(manifest_with("/contract/contract_version", json!(2)), 240, "contract version 2 is unknown, this release reads 1");
    check(manifest_with("/contract/step_ms", json!(0)), 242, "contract: step_ms is 0, expected 1 to 10000");
    let contract = Contract::parse(&CONTRACT.as_bytes()[..10]);
    check(contract, 241, "contract: EOF while parsing a string at line 2 column 8");
}

#[test]
fn paths_that_leave_the_folder_cannot_be_spelled() {
    for path in ["", "..", ".", "../a", "a/../b", "/a", "a//b", "a/", ".hidden", "-rf", "A", "a b", "a\\b", "ä", "a\0", "manifest.json"] {
        let error = manifest_with("/files/3/path", json!(path)).unwrap_err();
        assert_eq!(error.number(), 234, "{path:?}: {error}");
    }
    assert_eq!(manifest_with("/files/3/path", json!("x".repeat(101))).unwrap_err().number(), 234);
    assert!(manifest_with("/files/3/path", json!("x".repeat(100))).is_ok());
}

#[test]
fn a_field_that_is_unknown_missing_or_given_twice_is_refused() {
    let text = String::from_utf8(sample().manifest.to_bytes().unwrap()).unwrap();
    for (from, to) in [
        (r#""format": 1"#, r#""format": 1, "format": 1"#),
        (r#""format": 1"#, r#""format": 1, "script": "x""#),
        (r#""model": "model.onnx","#, ""),
        (r#""notes": {}"#, r#""notes": {"en": "model.onnx", "en": "weights-3.bin"}"#),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Manifest::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.number(), 232, "{error}");
    }
    assert_eq!(Manifest::parse([text.as_bytes(), b"{}"].concat().as_slice()).unwrap_err().number(), 232);
}

#[test]
fn numbers_and_names_are_used_once() {
    let source = include_str!("../error.rs");
    let arms = |function: &str| -> Vec<&str> {
        let body = source.split(function).nth(1).unwrap().split("\n    }\n").next().unwrap();
        body.lines().filter_map(|line| line.split_once("=> ")).map(|(_, value)| value).collect()
    };
    for function in ["fn number", "fn name"] {
        let values = arms(function);
        assert_eq!(values.len(), 37, "{function}");
        assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len(), "{function}");
    }
}
