//! The key of an encrypted bundle: it is for one vehicle, one ECU and one bundle.

use super::*;
use crate::{
    bundle::ContentKey,
    digest::Sha256Digest,
    keys::sealing::{DecryptionKey, Recipient, SealedContentKey},
    metadata::{Custom, EcuSerial, EncryptionMethod, TargetMeta, VehicleId, json},
    testing::{custom, identity},
};

fn own() -> DecryptionKey {
    DecryptionKey::from_seed(&[1; 32])
}

fn key() -> ContentKey {
    ContentKey::from_bytes([7; 32])
}

fn release(encryption: Option<EncryptionMethod>) -> TargetMeta {
    let release = custom(5);
    TargetMeta::of_release(b"index", &Custom { bundle: crate::metadata::BundleRef { encryption, ..release.bundle }, ..release })
}

/// Sealed for vehicle `v-1` and the bundle of [`custom`], or for what the arguments say.
fn sealed(to: &DecryptionKey, vehicle_id: &str, ecu_serial: &str, bundle: &[u8]) -> SealedContentKey {
    let (vehicle_id, ecu_serial) = (VehicleId::new(vehicle_id).unwrap(), EcuSerial::new(ecu_serial).unwrap());
    let recipient = Recipient::Vehicle { vehicle_id: &vehicle_id, ecu_serial: &ecu_serial };
    SealedContentKey::seal(&key(), &to.encryption_key(), recipient, &Sha256Digest::of(bundle), &[3; 32]).unwrap()
}

/// What a vehicle makes of a release of which the Director says `change` on top.
fn checked(encryption: Option<EncryptionMethod>, change: impl FnOnce(TargetMeta) -> TargetMeta) -> Outcome {
    let mut repositories = TestRepositories::new();
    let release = release(encryption);
    repositories.publish_target(INDEX, release.clone());
    repositories.assign_target(INDEX, change(release));
    TestVehicle::new(&repositories).check(&repositories, NOW)
}

const ENCRYPTED: Option<EncryptionMethod> = Some(EncryptionMethod::Aes256GcmChunks);

#[test]
fn the_key_of_a_bundle_opens_for_the_vehicle_that_it_is_assigned_to() {
    let target = assert_installs(checked(ENCRYPTED, |target| target.with_content_key(&sealed(&own(), "v-1", "ecu-1", b"bundle"))));
    assert_eq!(target.content_key(&own(), &identity()), Ok(Some(key())));
    assert!(!alloc::format!("{target:?}").contains(&alloc::format!("{:?}", [7_u8; 32])));
}

#[test]
fn a_key_for_another_vehicle_ecu_or_bundle_does_not_open() {
    let other = DecryptionKey::from_seed(&[2; 32]);
    for key in [
        sealed(&other, "v-1", "ecu-1", b"bundle"),
        sealed(&own(), "v-2", "ecu-1", b"bundle"),
        sealed(&own(), "v-1", "ecu-2", b"bundle"),
        sealed(&own(), "v-1", "ecu-1", b"another"),
    ] {
        let target = assert_installs(checked(ENCRYPTED, |target| target.with_content_key(&key)));
        assert_error(
            &target.content_key(&own(), &identity()).unwrap_err(),
            "191 content_key_unopened (mix-and-match attack): the content key of ultra/vla-2-2.0.0.index does not open: it is not sealed to \
             the key of vehicle v-1, ECU ecu-1, for this bundle",
        );
    }
}

#[test]
fn an_encrypted_bundle_without_its_key_is_named_when_it_is_to_be_installed() {
    let target = assert_installs(checked(ENCRYPTED, |target| target));
    assert_error(
        &target.content_key(&own(), &identity()).unwrap_err(),
        "190 content_key_not_given (no attack): the bundle of ultra/vla-2-2.0.0.index is encrypted, and the Director gives this vehicle no \
         content key for it",
    );
}

#[test]
fn a_key_that_cannot_be_read_is_refused_with_the_metadata() {
    let Outcome::Refused(error) = checked(ENCRYPTED, |mut target| {
        target.custom.insert("contentKey".into(), json::parse(br#"{"method":"rot13"}"#, 100).unwrap());
        target
    }) else {
        panic!("it was believed");
    };
    assert_error(
        &error,
        "146 custom_malformed (arbitrary software attack): ultra/vla-2-2.0.0.index: \
         custom.contentKey.method is not a way of sealing that is known here; update this software first",
    );
}

#[test]
fn a_plain_bundle_needs_no_key_and_is_not_held_up_by_one() {
    let target = assert_installs(checked(None, |target| target.with_content_key(&sealed(&own(), "v-2", "ecu-1", b"bundle"))));
    assert_eq!(target.content_key(&own(), &identity()), Ok(None));
}
