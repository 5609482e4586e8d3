//! Inputs that the targets accept, made by the same code that makes what is sent, and the keys and the vehicle that they are made for.

use std::collections::BTreeMap;

use switchback_signing::{
    bundle::{BundleWriter, ChunkDecoder, ChunkIndex, ContentKey, Manifest, manifest::FileEntry},
    digest::Sha256Digest,
    keys::{
        Ed25519Signer, P256Signer, PublicKey, Signer, file,
        http::{Request, sign_request},
        pem::{Scheme, SecretKey, public_to_pem},
        sealing::DecryptionKey,
    },
    metadata::{
        BundleRef, Companion, Custom, DelegatedRole, Delegations, Document, EcuAssignment, EcuImage, EcuSerial, HardwareId, MetaFile,
        Region, Root, RootRole, Snapshot, SuccinctRoles, TargetMeta, Targets, Tier, Timestamp, VehicleId, Version,
        json::{self, Json},
        sign,
        vehicle::{
            EcuReport, EnrolledSecondary, EnrollmentRequest, EnrollmentResponse, InstalledImage, Reason, ReleaseRef, ReportPayload,
            SilentEcu, UpdateState, VehicleVersionManifest,
        },
    },
    time::UnixTime,
    trust::{Ecu, Installed, RepositoryMap, TrustAnchors, VehicleIdentity},
};

use crate::parts;

/// When the targets take place.
pub const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

/// The keys that the target `update` signs with.
pub(crate) const KEYS: [u8; 3] = [1, 2, 3];

/// What the request of the target `keys` is sent to, and its body.
pub(crate) const TARGET: &str = "/v1/vehicles/v-1/manifest?full=1";
pub(crate) const BODY: &[u8] = b"{}";

/// Path of the release in the seeds.
const RELEASE: &str = "ultra/vla-2.index";

/// Path of the camera's image.
const FIRMWARE: &str = "ultra/camera.bin";

/// The contract that the tests of the bundle use.
const CONTRACT: &str = include_str!("../../../signing/src/bundle/tests/contract.json");

/// The key of a number. Its secret is known to everybody.
pub(crate) fn key(number: u8) -> Ed25519Signer {
    Ed25519Signer::from_seed([number; 32])
}

fn public(numbers: &[u8]) -> Vec<PublicKey> {
    numbers.iter().map(|number| key(*number).public_key()).collect()
}

/// The roots that the vehicle was provisioned with.
pub(crate) fn anchors() -> TrustAnchors {
    let root = sign(&root(1), &[&key(1)]).unwrap();
    TrustAnchors { director_root: root.clone(), image_root: root }
}

pub(crate) fn identity() -> VehicleIdentity {
    VehicleIdentity {
        vehicle_id: VehicleId::new("v-1").unwrap(),
        ecu_serial: EcuSerial::new("ecu-1").unwrap(),
        hardware_id: HardwareId::new("thor").unwrap(),
        tier: Tier::new("ultra").unwrap(),
        region: Region::new("eu").unwrap(),
        sdk_version: Version::new(0, 1, 0),
        onnxruntime_version: Version::new(1, 23, 0),
        contract_versions: vec![1],
    }
}

/// The vehicle's camera, an ECU of its own.
pub(crate) fn camera() -> Ecu {
    let (ecu_serial, hardware_id) = (EcuSerial::new("cam-1").unwrap(), HardwareId::new("imx").unwrap());
    Ecu { ecu_serial, hardware_id, installed: Installed::default() }
}

fn root(version: u64) -> Root {
    let mut root = Root::new(version, NOW.plus_days(365));
    for role in RootRole::ALL {
        root.set_role(role, 1, &public(&KEYS[..1]));
    }
    root
}

fn release() -> TargetMeta {
    let custom = Custom {
        release_counter: 5,
        hardware_ids: vec![HardwareId::new("thor").unwrap()],
        tier: Tier::new("ultra").unwrap(),
        regions: vec![Region::new("eu").unwrap()],
        contract_version: 1,
        sdk_min: Version::new(0, 1, 0),
        onnxruntime_min: Version::new(1, 23, 0),
        model: "vla-2".into(),
        version: "5.0.0".into(),
        bundle: BundleRef { path: "ultra/vla-2.tar.zst".into(), length: 6, sha256: Sha256Digest::of(b"bundle"), encryption: None },
        companions: vec![Companion {
            hardware_id: HardwareId::new("imx").unwrap(),
            path: FIRMWARE.into(),
            length: 8,
            sha256: Sha256Digest::of(b"firmware"),
            release_counter: 3,
        }],
        extra: BTreeMap::from([("note".into(), Json::string("x"))]),
    };
    TargetMeta::of_release(b"index", &custom)
}

/// The image of the camera beside the release.
fn firmware() -> TargetMeta {
    let block = EcuImage { release_counter: 3, hardware_ids: vec![HardwareId::new("imx").unwrap()] };
    let custom = BTreeMap::from([("shallMatch".into(), block.to_json())]);
    TargetMeta { custom, ..TargetMeta::of_digest(8, Sha256Digest::of(b"firmware")) }
}

/// Top-level targets that delegate `ultra/*` to two of three, and the delegated role.
fn image_targets() -> (Targets, Targets) {
    let mut delegations = Delegations::default();
    let engineers = public(&KEYS);
    delegations.add(DelegatedRole::new("elsewhere", 1, &engineers, &["x/*"]), &engineers);
    delegations.add(DelegatedRole::new("vla", 2, &engineers, &["ultra/*"]), &engineers);
    let mut top = Targets::new(1, NOW.plus_days(90));
    top.delegations = Some(delegations);
    let mut delegated = Targets::new(1, NOW.plus_days(30));
    delegated.targets.insert(RELEASE.into(), release());
    delegated.targets.insert(FIRMWARE.into(), firmware());
    (top, delegated)
}

/// A snapshot that lists versions only, so that what it lists can change.
fn snapshot(files: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::new(1, NOW.plus_days(30));
    for file in files {
        snapshot.meta.insert((*file).into(), version_only());
    }
    snapshot
}

fn version_only() -> MetaFile {
    MetaFile { version: 1, length: None, hashes: Default::default(), extra: BTreeMap::new() }
}

fn timestamp() -> Timestamp {
    Timestamp::new(1, NOW.plus_days(1), version_only())
}

/// The `signed` object of a document.
fn body<T: Document>(document: &T) -> Vec<u8> {
    let envelope = json::parse(&sign(document, &[]).unwrap(), usize::MAX).unwrap();
    json::to_bytes(envelope.member("signed").unwrap()).trim_ascii_end().to_vec()
}

pub(crate) fn metadata() -> Vec<Vec<u8>> {
    let (top, delegated) = image_targets();
    let mut bins = Targets::new(7, NOW);
    let keys = Delegations::default();
    let role = DelegatedRole::new("x", 1, &public(&KEYS), &[]).keys;
    let succinct = SuccinctRoles { keys: role, bit_length: 8, name_prefix: "bin".into(), extra: BTreeMap::new() };
    bins.delegations = Some(Delegations { bins: Some(succinct), ..keys });
    let mut listing = snapshot(&["targets.json"]);
    listing.meta.insert("vla.json".into(), MetaFile::of(3, b"bytes"));
    let signers = KEYS.map(key);
    let signers: Vec<&dyn Signer> = signers.iter().map(|signer| signer as &dyn Signer).collect();
    vec![
        sign(&root(2), &signers).unwrap(),
        sign(&timestamp(), &signers[..1]).unwrap(),
        sign(&listing, &signers[..1]).unwrap(),
        sign(&top, &signers).unwrap(),
        sign(&delegated, &signers[1..]).unwrap(),
        sign(&bins, &[]).unwrap(),
        in_the_dialect_of_aktualizr(&sign(&root(2), &signers).unwrap()),
        in_the_dialect_of_aktualizr(&sign(&top, &signers).unwrap()),
        RepositoryMap::of_both("https://director", "https://image").to_bytes(),
    ]
}

fn in_the_dialect_of_aktualizr(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let words = [
        (r#""_type":"root""#, r#""_type":"Root""#),
        (r#""_type":"targets""#, r#""_type":"Targets""#),
        (r#""keytype":"ed25519""#, r#""keytype":"ED25519""#),
    ];
    words.iter().fold(text, |text, (ours, theirs)| text.replace(ours, theirs)).into_bytes()
}

pub(crate) fn update() -> Vec<Vec<u8>> {
    let (top, delegated) = image_targets();
    let ecu = EcuAssignment { ecu_serial: identity().ecu_serial, hardware_id: identity().hardware_id };
    let mut assigned = Targets::new(1, NOW.plus_days(90));
    assigned.vehicle_id = Some(identity().vehicle_id);
    let nothing = body(&assigned);
    assigned.targets.insert(RELEASE.into(), release().assigned_to(&ecu));
    let alone = body(&assigned);
    let camera = EcuAssignment { ecu_serial: camera().ecu_serial, hardware_id: camera().hardware_id };
    assigned.targets.insert(FIRMWARE.into(), firmware().assigned_to(&camera));
    let (newer, stamp) = (body(&root(2)), body(&timestamp()));
    let (director, image) = (body(&snapshot(&["targets.json"])), body(&snapshot(&["targets.json", "vla.json", "elsewhere.json"])));
    let (assigned, top, delegated) = (body(&assigned), body(&top), body(&delegated));
    let whole = |assigned: &[u8], more: &[(&str, &[u8])]| {
        let mut parts: Vec<(&str, &[u8])> = vec![("days", b"0"), ("floor", b"3"), ("cut", b"4"), ("path", RELEASE.as_bytes())];
        parts.extend([
            ("director timestamp.json", stamp.as_slice()),
            ("director 1.snapshot.json", &director),
            ("director 1.targets.json", assigned),
            ("image timestamp.json", &stamp),
            ("image 1.snapshot.json", &image),
            ("image 1.targets.json", &top),
            ("image 1.vla.json", &delegated),
        ]);
        parts.extend(more);
        parts::join(&parts)
    };
    vec![
        whole(&assigned, &[]),
        whole(&nothing, &[]),
        whole(&alone, &[("alone", b"")]),
        whole(&assigned, &[("director 2.root.json", &newer), ("image 2.root.json", &newer)]),
    ]
}

pub(crate) fn reports() -> Vec<Vec<u8>> {
    let report = |ecu: &str, payload| EcuReport {
        ecu_serial: EcuSerial::new(ecu).unwrap(),
        installed: Some(InstalledImage { path: RELEASE.into(), length: 5, sha256: Sha256Digest::of(b"index") }),
        attack_detected: Some(Reason { number: 2_006, name: "expired".into(), text: "timestamp expired".into() }),
        time: NOW,
        counter: 5,
        payload,
    };
    let release = |counter| Some(ReleaseRef { model: "vla-2".into(), version: "5.0.0".into(), release_counter: counter });
    let encryption_key = DecryptionKey::from_seed(&[7; 32]).encryption_key();
    let busy = ReportPayload {
        release: release(4),
        candidate: release(5),
        update: UpdateState::Trial,
        reason: None,
        counters: BTreeMap::from([("steps".into(), 9), ("deadline_misses".into(), 0)]),
        encryption_key: Some(encryption_key),
    };
    let manifest = VehicleVersionManifest {
        vehicle_id: identity().vehicle_id,
        primary_ecu_serial: identity().ecu_serial,
        ecu_reports: Vec::new(),
        silent_ecus: Vec::new(),
    };
    let silent = SilentEcu {
        ecu_serial: EcuSerial::new("ecu-2").unwrap(),
        reason: Reason { number: 1, name: "silent".into(), text: "no answer".into() },
    };
    let incomplete = body(&VehicleVersionManifest { silent_ecus: vec![silent], ..manifest.clone() });
    let (manifest, first) = (body(&manifest), body(&report("ecu-1", busy)));
    let second = body(&EcuReport { installed: None, attack_detected: None, ..report("ecu-2", ReportPayload::idle()) });
    let request = EnrollmentRequest {
        token: "t-1".into(),
        vehicle_id: identity().vehicle_id,
        ecu_serial: identity().ecu_serial,
        hardware_id: identity().hardware_id,
        public_key: key(1).public_key(),
        sdk_version: Version::new(0, 1, 0),
        secondaries: vec![EnrolledSecondary {
            ecu_serial: camera().ecu_serial,
            hardware_id: camera().hardware_id,
            public_key: key(2).public_key(),
        }],
        encryption_key: Some(encryption_key),
    };
    vec![
        parts::join(&[("manifest", manifest.as_slice()), ("report", &first), ("report", &second)]),
        parts::join(&[("manifest", incomplete.as_slice()), ("report", &first)]),
        request.to_bytes(),
        EnrollmentResponse { vehicle_id: identity().vehicle_id }.to_bytes(),
    ]
}

/// A bundle of four files, one of them empty, and its index.
fn sample() -> (Vec<u8>, ChunkIndex, Vec<u8>) {
    let noise: Vec<u8> = (0..700_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let contents: [(&str, &[u8]); 4] = [
        ("model.onnx", &noise),
        ("selftest/inputs.safetensors", b""),
        ("selftest/outputs.safetensors", &noise[..512]),
        ("notes/en.txt", b"less less less less less less less less less less less less less"),
    ];
    let files =
        contents.map(|(path, content)| FileEntry { path: path.into(), length: content.len() as u64, sha256: Sha256Digest::of(content) });
    let listed =
        files.iter().map(|file| format!(r#"{{"path":"{}","length":{},"sha256":"{}"}}"#, file.path, file.length, file.sha256.to_hex()));
    let manifest = format!(
        r#"{{"format":1,"release":{{"model":"vla-2","version":"2.0.0","release_counter":7,"tier":"ultra","hardware_ids":["thor"]}},
            "files":[{}],"model":"model.onnx","notes":{{"en":"notes/en.txt"}},"rxswin":["RX 1"],
            "self_test":{{"inputs":"selftest/inputs.safetensors","outputs":"selftest/outputs.safetensors","cases":2}},"contract":{CONTRACT}}}"#,
        listed.collect::<Vec<_>>().join(",")
    );
    let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
    let mut writer = BundleWriter::new(Vec::new(), manifest.clone()).unwrap();
    for (_, content) in contents {
        writer.file(content).unwrap();
    }
    let (bundle, index) = writer.finish().unwrap();
    (manifest.to_bytes().unwrap(), index, bundle)
}

pub(crate) fn index() -> Vec<Vec<u8>> {
    let plain = sample().1.to_bytes();
    let mut encrypted = plain.clone();
    encrypted[6] = 1;
    vec![plain, encrypted]
}

/// The bundle as it was written, and with its archive in uncompressed chunks that are cut elsewhere; both plain and encrypted too.
pub(crate) fn bundle() -> Vec<Vec<u8>> {
    let (manifest, index, bundle) = sample();
    let mut decoder = ChunkDecoder::new(&index, None).unwrap();
    let (mut archive, mut chunks) = (Vec::new(), Vec::new());
    for row in index.rows() {
        let stored = &bundle[row.stored_offset() as usize..][..row.stored_length() as usize];
        let plain = decoder.decode(index.verify_stored(row.number(), stored).unwrap()).unwrap().bytes().to_vec();
        archive.extend_from_slice(&plain);
        chunks.push((stored, plain));
    }
    let mut written: Vec<(&str, &[u8])> = vec![("manifest", &manifest)];
    written.extend(chunks.iter().flat_map(|(stored, plain)| [("stored", *stored), ("plain", plain.as_slice())]));
    let mut cut: Vec<(&str, &[u8])> = vec![("manifest", &manifest)];
    cut.extend(archive.chunks(3_000).map(|piece| ("raw", piece)));
    let with_key = |parts: &[(&'static str, &[u8])]| parts::join(&[&[("key", &b"content key"[..])], parts].concat());
    vec![parts::join(&written), parts::join(&cut), with_key(&written), with_key(&cut), manifest.clone()]
}

pub(crate) fn keys() -> Vec<Vec<u8>> {
    let request = Request { method: "POST", target: TARGET, body: Some(Sha256Digest::of(BODY)) };
    let headers = sign_request(&key(1), &request, NOW).unwrap();
    let digest = headers.content_digest.unwrap();
    let request = parts::join(&[
        ("target", TARGET.as_bytes()),
        ("body", BODY),
        ("digest", digest.as_bytes()),
        ("input", headers.signature_input.as_bytes()),
        ("signature", headers.signature.as_bytes()),
    ]);
    let p256 = P256Signer::from_scalar(&[7; 32]).unwrap().public_key();
    let texts = ["2027-01-31T23:59:59Z", "1.23.0.4", "vehicle-1"].map(|text| text.as_bytes().to_vec());
    let pem = SecretKey::from_random(Scheme::EcdsaP256, &[7; 32]).unwrap().to_plain_pem().unwrap().as_bytes().to_vec();
    let pem_public = [key(1).public_key(), p256.clone()].map(|key| public_to_pem(&key).unwrap().into_bytes());
    let files = [file::secret_to_bytes(&key(1)), file::public_to_bytes(&key(2).public_key()), file::public_to_bytes(&p256), request];
    let content_key = ContentKey::from_bytes([9; 32]).to_jwk().as_bytes().to_vec();
    files.into_iter().chain(texts).chain([pem, content_key]).chain(pem_public).collect()
}

/// Keys that OpenSSL encrypted at next to no cost; our own code has one cost, which is too high to pay a thousand times.
pub(crate) fn encrypted_keys() -> Vec<Vec<u8>> {
    let files: [&[u8]; 4] = [
        include_bytes!("../corpus/encrypted-keys/ed25519-scrypt"),
        include_bytes!("../corpus/encrypted-keys/p256-scrypt"),
        include_bytes!("../corpus/encrypted-keys/ed25519-pbkdf2"),
        include_bytes!("../corpus/encrypted-keys/p256-pbkdf2"),
    ];
    files.map(<[u8]>::to_vec).into()
}
