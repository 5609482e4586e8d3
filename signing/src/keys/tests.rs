#![allow(clippy::unwrap_used, clippy::expect_used)]
use alloc::string::ToString;

use proptest::prelude::*;

use super::{encoding::array_from_hex, *};

fn key(seed: u8) -> Ed25519Signer {
    Ed25519Signer::from_seed([seed; 32])
}

#[test]
fn the_signature_is_that_of_rfc_8032() {
    // RFC 8032, section 7.1, test 2.
    let seed = array_from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
    let signer = Ed25519Signer::from_seed(seed);
    assert_eq!(to_hex(signer.public_key().as_bytes()), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    assert_eq!(
        signer.sign(&[0x72]).unwrap().to_hex(),
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    );
}

#[test]
fn the_key_id_is_the_digest_of_the_canonical_key_object() {
    let public = key(1).public_key();
    let canonical = alloc::format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#, to_hex(public.as_bytes()));
    assert_eq!(public.key_id().as_str(), Sha256Digest::of(canonical.as_bytes()).to_hex());
}

#[test]
fn a_key_under_which_one_signature_fits_every_message_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(PublicKey::ed25519(identity), Err(PublicKeyError));
    // y = p + 3: a second spelling of the point with y = 3, and two spellings would count as two keys.
    let mut second_spelling = [0xff; 32];
    (second_spelling[0], second_spelling[31]) = (0xf0, 0x7f);
    assert_eq!(PublicKey::ed25519(second_spelling), Err(PublicKeyError));
    assert_eq!(PublicKeyError.to_string(), "not an acceptable ed25519 public key (32 bytes, canonical, not of small order)");
}

#[test]
fn a_signature_with_a_scalar_that_is_not_reduced_is_refused() {
    // Adding the group order L to S gives a second signature that careless verifiers accept.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0x10,
    ];
    let mut malleable = key(1).sign(b"message").unwrap().as_bytes().to_vec();
    let mut carry = 0_u16;
    for (byte, order) in malleable[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert_eq!(key(1).public_key().verify(b"message", &malleable), Err(SignatureError));
}

/// Made by the key's owner with the neutral element for R: some verifiers accept it and some do not, so a fleet would not decide alike.
#[test]
fn a_signature_with_a_commitment_of_small_order_is_refused() {
    let signature = encoding::from_hex(
        "010000000000000000000000000000000000000000000000000000000000000095c0fdcc54fccad1f2b8bc9b96aa6837c82f86349e6576ad29ca3ece7b7ea905",
    )
    .unwrap();
    let careless = VerifyingKey::from_bytes(key(1).public_key().as_bytes().try_into().unwrap()).unwrap();
    let parsed = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    assert!(ed25519_dalek::Verifier::verify(&careless, b"message", &parsed).is_ok());
    assert_eq!(key(1).public_key().verify(b"message", &signature), Err(SignatureError));
}

#[test]
fn a_secret_key_does_not_print_its_secret() {
    let text = alloc::format!("{:?}", key(9));
    assert!(!text.contains("0909090909") && text.ends_with(", secret)"), "{text}");
}

#[test]
fn a_key_of_an_unknown_scheme_is_kept_and_cannot_verify() {
    let json = r#"{"keytype":"ed448","keyval":{"public":"00"},"scheme":"ed448","x-note":1}"#;
    let json = crate::metadata::json::parse(json.as_bytes(), 1_000).unwrap();
    let object = KeyObject::from_json(json.clone(), "key").unwrap();
    assert_eq!((object.public_key(), object.to_json()), (None, &json));
}

proptest! {
    #[test]
    fn one_changed_bit_anywhere_is_refused(seed: [u8; 32], message in prop::collection::vec(any::<u8>(), 1..100), bit: prop::sample::Index) {
        let signer = Ed25519Signer::from_seed(seed);
        let signature = signer.sign(&message).unwrap();
        prop_assert_eq!(signer.public_key().verify(&message, signature.as_bytes()), Ok(()));
        let mut all = [signature.as_bytes(), &message].concat();
        let at = bit.index(all.len() * 8);
        all[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(signer.public_key().verify(&all[64..], &all[..64]), Err(SignatureError));
    }
}

/// A key and a signature of `message` that securesystemslib 1.4.0 made: its key object, its key id, its spelling of both.
#[cfg(all(feature = "p256", feature = "rsa"))]
fn check_foreign(fixture: &[u8], scheme: &str) {
    use crate::metadata::json::{self, Json};
    let fixture = json::parse(fixture, 10_000).unwrap();
    let text = |name: &str| fixture.member(name).and_then(Json::as_str).unwrap();
    let key = KeyObject::from_json(fixture.member("key").unwrap().clone(), "key").unwrap().public_key().unwrap().clone();
    let signature = encoding::from_hex(text("sig")).unwrap();
    assert_eq!((key.key_id().as_str(), key.scheme()), (text("keyid"), scheme));
    assert_eq!(KeyObject::from(&key).to_json(), fixture.member("key").unwrap());
    assert_eq!(key.verify(b"message", &signature), Ok(()));
    assert_eq!(key.verify(b"massage", &signature), Err(SignatureError));
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        assert_eq!(key.verify(b"message", &changed), Err(SignatureError), "byte {at}");
    }
    for wrong in [&signature[1..], &signature[..signature.len() - 1], &[signature.as_slice(), &[0]].concat(), &[]] {
        assert_eq!(key.verify(b"message", wrong), Err(SignatureError));
    }
}

#[test]
#[cfg(all(feature = "p256", feature = "rsa"))]
fn keys_and_signatures_of_securesystemslib_verify_and_have_the_same_ids() {
    check_foreign(include_bytes!("testdata/securesystemslib-p256.json"), "ecdsa-sha2-nistp256");
    check_foreign(include_bytes!("testdata/securesystemslib-rsa.json"), "rsassa-pss-sha256");
}

#[test]
#[cfg(feature = "p256")]
fn what_a_p256_key_signs_verifies_under_its_public_half_and_no_other() {
    let (one, other) = (P256Signer::from_scalar(&[1; 32]).unwrap(), P256Signer::from_scalar(&[2; 32]).unwrap());
    let signature = one.sign(b"message").unwrap();
    assert_eq!(signature, one.sign(b"message").unwrap(), "RFC 6979 takes no random number");
    assert_eq!(one.public_key().verify(b"message", signature.as_bytes()), Ok(()));
    assert_eq!(other.public_key().verify(b"message", signature.as_bytes()), Err(SignatureError));
    let PublicKey::P256(public) = one.public_key() else { panic!("a P-256 key") };
    assert!(P256PublicKey::from_point(public.as_bytes()) == Some(public));
    assert!(P256PublicKey::from_point(&[4; 65]).is_none());
    // RFC 6979, appendix A.2.5, of "sample" with SHA-256.
    let numbers = encoding::from_hex(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    );
    let scalar = array_from_hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721").unwrap();
    let key = P256Signer::from_scalar(&scalar).unwrap();
    let signature = P256PublicKey::signature_of_numbers(&numbers.unwrap()).unwrap();
    assert_eq!(key.public_key().verify(b"sample", signature.as_bytes()), Ok(()));
    assert_eq!(P256PublicKey::signature_of_numbers(&[0; 64]), None);
    assert!(P256Signer::from_scalar(&[0; 32]).is_none() && P256Signer::from_scalar(&[0xff; 32]).is_none());
}

#[test]
#[cfg(not(feature = "p256"))]
fn a_key_whose_feature_is_off_can_never_count() {
    use crate::metadata::json;
    let fixture = json::parse(include_bytes!("testdata/securesystemslib-p256.json"), 10_000).unwrap();
    let object = KeyObject::from_json(fixture.member("key").unwrap().clone(), "key").unwrap();
    assert_eq!((object.public_key(), object.to_json()), (None, fixture.member("key").unwrap()));
}
