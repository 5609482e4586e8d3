//! Keys of encrypted bundles in the hands of somebody else than the vehicle that they were sealed for.

use switchback_signing::{
    bundle::ContentKey,
    digest::Sha256Digest,
    keys::sealing::{DecryptionKey, EncryptionKey, Recipient, SealedContentKey},
    metadata::{EcuSerial, EncryptionMethod, TargetMeta, VehicleId, json::Json},
    testing::{NOW, TestRepositories, TestVehicle, custom, identity},
    trust::{Outcome, TrustError},
};

const INDEX: &str = "ultra/vla-2-5.0.0.index";

/// Seals the content key of a bundle, which is 32 times a 7.
fn sealed(to: &DecryptionKey, vehicle: &str, ecu: &str, bundle: &Sha256Digest) -> SealedContentKey {
    let (vehicle_id, ecu_serial) = (VehicleId::new(vehicle).unwrap(), EcuSerial::new(ecu).unwrap());
    let recipient = Recipient::Vehicle { vehicle_id: &vehicle_id, ecu_serial: &ecu_serial };
    SealedContentKey::seal(&ContentKey::from_bytes([7; 32]), &to.encryption_key(), recipient, bundle, &[3; 32]).unwrap()
}

/// What vehicle `v-1` makes of an encrypted release of which the Director says this on top.
fn opens(says: impl FnOnce(TargetMeta) -> TargetMeta) -> Result<Option<ContentKey>, TrustError> {
    let mut release = custom(5);
    release.bundle.encryption = Some(EncryptionMethod::Aes256GcmChunks);
    let mut repositories = TestRepositories::new();
    repositories.publish_target(INDEX, TargetMeta::of_release(b"index", &release));
    repositories.assign_target(INDEX, says(TargetMeta::of_release(b"index", &release)));
    match TestVehicle::new(&repositories).check(&repositories, NOW) {
        Outcome::Install(target) => target.content_key(&DecryptionKey::from_seed(&[1; 32]), &identity()),
        Outcome::Refused(error) => Err(error),
        Outcome::NothingNew => panic!("a release is assigned"),
    }
}

/// Whoever has a bundle and metadata of another vehicle, of another of its ECUs or of another bundle reads nothing by them.
#[test]
fn a01_a_content_key_for_somebody_or_something_else_does_not_open() {
    let (own, other) = (DecryptionKey::from_seed(&[1; 32]), DecryptionKey::from_seed(&[2; 32]));
    let bundle = custom(5).bundle.sha256;
    let another = Sha256Digest::of(b"another bundle");
    let keys = [
        ("of another vehicle", sealed(&own, "v-2", "ecu-1", &bundle)),
        ("of another ECU", sealed(&own, "v-1", "ecu-2", &bundle)),
        ("of another bundle", sealed(&own, "v-1", "ecu-1", &another)),
        ("under another key", sealed(&other, "v-1", "ecu-1", &bundle)),
    ];
    for (what, key) in keys {
        let error = opens(|meta| meta.with_content_key(&key)).expect_err(what);
        assert_eq!((error.number(), error.name()), (191, "content_key_unopened"), "{what}: {error}");
    }
    let error = opens(|meta| meta).expect_err("no key");
    assert_eq!((error.number(), error.name()), (190, "content_key_not_given"), "{error}");
    let by_another_way = |mut meta: TargetMeta| {
        let Json::Object(mut key) = sealed(&own, "v-1", "ecu-1", &bundle).to_json() else { panic!("an object") };
        key.insert("method".into(), Json::string("none"));
        meta.custom.insert("contentKey".into(), Json::Object(key));
        meta
    };
    let error = opens(by_another_way).expect_err("a way of sealing that nobody knows");
    assert_eq!((error.number(), error.name()), (146, "custom_malformed"), "{error}");
    let key = opens(|meta| meta.with_content_key(&sealed(&own, "v-1", "ecu-1", &bundle))).unwrap();
    assert_eq!(key, Some(ContentKey::from_bytes([7; 32])));
}

/// A vehicle that names a point of small order as its key would have anybody read what is sealed to it.
#[test]
fn a01_a_key_of_small_order_is_none_to_seal_to() {
    let neutral: [u8; 32] = std::array::from_fn(|at| u8::from(at == 0));
    // The highest bit does not count, so that it may be set.
    let again: [u8; 32] = std::array::from_fn(|at| if at == 31 { 0x80 } else { neutral[at] });
    for point in [[0; 32], neutral, again] {
        assert!(EncryptionKey::from_bytes(point).is_err(), "{point:02x?}");
    }
    assert!(EncryptionKey::from_bytes(*DecryptionKey::from_seed(&[1; 32]).encryption_key().as_bytes()).is_ok());
}
