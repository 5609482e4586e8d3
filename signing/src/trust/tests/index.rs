//! The chunk index that the proof is about.

use super::*;
use crate::{
    bundle::{BundleWriter, ChunkIndex, Manifest},
    digest::Sha256Digest,
    metadata::{BundleRef, EncryptionMethod, TargetMeta},
    testing::custom,
};

fn index() -> ChunkIndex {
    let files = ["model.onnx", "selftest/inputs.safetensors", "selftest/outputs.safetensors"];
    let entries = files.map(|path| alloc::format!(r#"{{"path":"{path}","length":5,"sha256":"{}"}}"#, Sha256Digest::of(b"bytes")));
    let manifest = alloc::format!(
        r#"{{"format":1,"release":{{"model":"vla-2","version":"5.0.0","release_counter":5,"tier":"ultra","hardware_ids":["thor"]}},
            "files":[{}],"model":"model.onnx",
            "self_test":{{"inputs":"selftest/inputs.safetensors","outputs":"selftest/outputs.safetensors","cases":1}},
            "contract":{}}}"#,
        entries.join(","),
        include_str!("../../bundle/tests/contract.json")
    );
    let mut writer = BundleWriter::new(Vec::new(), Manifest::parse(manifest.as_bytes()).unwrap()).unwrap();
    for _ in files {
        writer.file(&b"bytes"[..]).unwrap();
    }
    writer.finish().unwrap().1
}

/// The proof for these bytes, of a release that names the bundle by this digest.
fn verified(bytes: &[u8], bundle_sha256: Sha256Digest) -> VerifiedTarget {
    verified_as(bytes, bundle_sha256, None)
}

fn verified_as(bytes: &[u8], bundle_sha256: Sha256Digest, encryption: Option<EncryptionMethod>) -> VerifiedTarget {
    let mut repositories = TestRepositories::new();
    let mut release = custom(5);
    let length = ChunkIndex::parse(bytes).map_or(6, |index| index.bundle_length());
    release.bundle = BundleRef { path: "ultra/vla-2.tar.zst".into(), length, sha256: bundle_sha256, encryption };
    repositories.publish_target(INDEX, TargetMeta::of_release(bytes, &release));
    repositories.assign(INDEX);
    assert_installs(TestVehicle::new(&repositories).check(&repositories, NOW))
}

#[test]
fn the_index_that_was_signed_is_accepted() {
    let index = index();
    let bytes = index.to_bytes();
    assert_eq!(verified(&bytes, index.bundle_sha256()).verify_index(&bytes), Ok(index));
}

#[test]
fn any_other_index_is_refused() {
    let index = index();
    let bytes = index.to_bytes();
    let target = verified(&bytes, index.bundle_sha256());
    let longer = [bytes.as_slice(), b"0"].concat();
    assert_error(
        &target.verify_index(&longer).unwrap_err(),
        &alloc::format!(
            "160 index_length_differs (endless data attack): the index ultra/vla-2-2.0.0.index has {} bytes where {} are listed",
            longer.len(),
            bytes.len()
        ),
    );
    let mut altered = bytes.clone();
    altered[20] ^= 1;
    assert_error(
        &target.verify_index(&altered).unwrap_err(),
        &alloc::format!(
            "161 index_digest_differs (arbitrary software attack): the index ultra/vla-2-2.0.0.index has SHA-256 {} where {} is listed",
            Sha256Digest::of(&altered),
            Sha256Digest::of(&bytes)
        ),
    );
}

/// A vehicle believes what the block says about the encryption, and looks for a key by it: the index must say the same.
#[test]
fn an_index_that_is_encrypted_otherwise_than_the_release_says_is_refused() {
    let index = index();
    let encrypted = {
        let mut bytes = index.to_bytes();
        bytes[6] = 1;
        bytes
    };
    let method = Some(EncryptionMethod::Aes256GcmChunks);
    let [plain, named] = ["not encrypted", "encrypted (A256GCM-chunks)"];
    for (bytes, listed, found, said) in [(&index.to_bytes(), method, plain, named), (&encrypted, None, named, plain)] {
        let target = verified_as(bytes, index.bundle_sha256(), listed);
        assert_error(
            &target.verify_index(bytes).unwrap_err(),
            &alloc::format!(
                "166 index_encryption_differs (mix-and-match attack): the index ultra/vla-2-2.0.0.index is of a bundle that is {found}, but the \
                 release says that it is {said}; the release has to be signed anew from its bundle"
            ),
        );
    }
    let target = verified_as(&encrypted, index.bundle_sha256(), method);
    assert_eq!(target.verify_index(&encrypted).unwrap().encryption(), method);
}

#[test]
fn a_signed_index_that_cannot_be_used_is_refused() {
    let error = verified(b"no index", Sha256Digest::of(b"bundle")).verify_index(b"no index").unwrap_err();
    assert_eq!((error.number(), error.name(), error.attack()), (162, "index_malformed", None));
    assert!(error.to_string().starts_with("the index ultra/vla-2-2.0.0.index: "), "{error}");
    let index = index();
    let bytes = index.to_bytes();
    let listed = Sha256Digest::of(b"another bundle");
    assert_error(
        &verified(&bytes, listed).verify_index(&bytes).unwrap_err(),
        &alloc::format!(
            "163 index_of_other_bundle (mix-and-match attack): the index ultra/vla-2-2.0.0.index is of bundle {}, but the release names bundle {listed}",
            index.bundle_sha256()
        ),
    );
}
