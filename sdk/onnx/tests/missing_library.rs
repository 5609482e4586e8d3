//! What is said when ONNX Runtime is not there. A program of its own: nothing else may have opened it before.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use switchback_onnx::{Runtime, RuntimeError};

#[test]
fn a_missing_or_foreign_library_is_an_error_that_names_the_path_and_never_a_panic() {
    let missing = Runtime::load(Some(Path::new("/nowhere/libonnxruntime.so.1"))).unwrap_err();
    assert_eq!(missing.number(), 4001);
    assert_eq!(
        missing.to_string(),
        "could not open ONNX Runtime at /nowhere/libonnxruntime.so.1: /nowhere/libonnxruntime.so.1: cannot open \
         shared object file: No such file or directory; set ORT_DYLIB_PATH to libonnxruntime.so.1 of version 1.23 \
         or later"
    );

    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("libonnxruntime.so.1");
    std::fs::write(&text, "not a library").unwrap();
    let not_a_library = Runtime::load(Some(&text)).unwrap_err();
    assert_eq!(not_a_library.number(), 4001);
    assert!(not_a_library.to_string().contains(text.to_str().unwrap()), "{not_a_library}");

    // The C library is on every machine and is certainly no ONNX Runtime.
    let foreign = Runtime::load(Some(Path::new("libc.so.6"))).unwrap_err();
    assert!(matches!(foreign, RuntimeError::NotOnnxRuntime { .. }), "{foreign}");
    assert_eq!((foreign.number(), foreign.to_string().as_str()), (4002, "libc.so.6 is not ONNX Runtime: it has no OrtGetApiBase"));

    for (version, said) in [(Some("1.22.1"), "1.22.1"), (Some("2.0.0"), "2.0.0"), (None, "unknown")] {
        let other = library_of_version(directory.path(), version);
        let too_old = Runtime::load(Some(&other)).unwrap_err();
        let expected =
            format!("ONNX Runtime at {} is version {said}, at least 1.23 is needed; set ORT_DYLIB_PATH to such a one", other.display());
        assert_eq!((too_old.number(), too_old.to_string()), (4003, expected));
    }

    // A failure is not remembered: the right path works afterwards, in the same process.
    let runtime = Runtime::load(None).expect("sdk/onnx/get-onnxruntime.sh provides the library");
    assert!(runtime.version().starts_with("1."), "{}", runtime.version());
}

/// A library that says of itself what ONNX Runtime of that version says, or nothing. The compiler is the one that links this test.
fn library_of_version(directory: &Path, version: Option<&str>) -> PathBuf {
    let (source, library) = (directory.join("runtime.c"), directory.join(format!("libonnxruntime-{}.so", version.unwrap_or("silent"))));
    let version = version.map_or("0".to_owned(), |version| format!("\"{version}\""));
    let code = format!(
        "static const void *api(unsigned version) {{ (void)version; return 0; }}\n\
         static const char *version(void) {{ return {version}; }}\n\
         static const struct {{ const void *(*api)(unsigned); const char *(*version)(void); }} base = {{ api, version }};\n\
         const void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    std::fs::write(&source, code).unwrap();
    let compiled = std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}
