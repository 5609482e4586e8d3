//! Key files, signed requests, and the small texts in them: names, versions, times.

use core::str::FromStr;

use switchback_signing::{
    bundle::ContentKey,
    digest::Sha256Digest,
    keys::{
        PublicKey, Signer, file,
        http::{BorrowedHeaders, Request, RequestVerifier},
        pem::{SecretKey, parse_public, public_to_pem},
    },
    metadata::{EcuSerial, HardwareId, Region, Tier, VehicleId, Version},
    time::UnixTime,
};

use crate::{Verdict, parts, seeds};

pub(crate) fn run(input: &[u8]) -> Verdict {
    let parts = parts::split(input);
    if !parts.is_empty() {
        return request(&parts);
    }
    let mut accepted = key_file(input) | content_key(input);
    if let Ok(text) = std::str::from_utf8(input) {
        accepted |= pem_file(text);
        accepted |= version(text) | same::<UnixTime>(text) | same::<VehicleId>(text) | same::<EcuSerial>(text);
        accepted |= same::<HardwareId>(text) | same::<Tier>(text) | same::<Region>(text);
    }
    accepted.into()
}

fn key_file(input: &[u8]) -> bool {
    if let Ok(signer) = file::parse_secret(input) {
        let signature = signer.sign(b"message").expect("a key in memory signs");
        assert!(signer.public_key().verify(b"message", signature.as_bytes()).is_ok());
        let again = file::parse_secret(&file::secret_to_bytes(&signer)).expect("what we write we read");
        assert_eq!(again.public_key(), signer.public_key());
        assert_eq!(file::parse_public(input).as_ref(), Ok(&signer.public_key()));
    }
    let Ok(key) = file::parse_public(input) else { return false };
    assert_eq!(file::parse_public(&file::public_to_bytes(&key)).as_ref(), Ok(&key));
    assert!(key.verify(b"message", input).is_err(), "the key's own file is a signature");
    if let PublicKey::Ed25519(_) = key {
        let bytes: [u8; 32] = key.as_bytes().try_into().expect("32 bytes");
        assert_eq!(PublicKey::ed25519(bytes).as_ref(), Ok(&key));
    }
    true
}

fn content_key(input: &[u8]) -> bool {
    let Ok(key) = ContentKey::from_jwk(input) else { return false };
    assert!(ContentKey::from_jwk(key.to_jwk().as_bytes()).as_ref() == Ok(&key), "what we write we read");
    true
}

/// Not encrypted files: how much work a passphrase is, is for the owner of a key to say.
fn pem_file(text: &str) -> bool {
    let secret = SecretKey::from_pem(text, None);
    if let Ok(secret) = &secret {
        let signature = secret.sign(b"message").expect("a key in memory signs");
        assert!(secret.public_key().verify(b"message", signature.as_bytes()).is_ok());
        let again = SecretKey::from_pem(&secret.to_plain_pem().expect("what was read can be written"), None);
        assert_eq!(again.expect("what we write we read").public_key(), secret.public_key());
    }
    let public = parse_public(text);
    if let Some(key) = &public {
        let written = public_to_pem(key).expect("what was read can be written");
        assert_eq!(parse_public(&written).as_ref(), Some(key));
    }
    secret.is_ok() || public.is_some()
}

/// A request whose headers are the input's; only the ones that our own signer makes for this very request pass.
fn request(parts: &[(String, &[u8])]) -> Verdict {
    let text = |name| std::str::from_utf8(parts::named(parts, name).unwrap_or_default()).unwrap_or_default();
    let body = parts::named(parts, "body").map(Sha256Digest::of);
    let target = text("target");
    let request = Request { method: "POST", target, body };
    let digest = parts::named(parts, "digest").map(|_| text("digest"));
    let headers = BorrowedHeaders { signature_input: text("input"), signature: text("signature"), content_digest: digest };
    let signer = seeds::key(1);
    if RequestVerifier::new(signer.public_key()).verify(&request, &headers, seeds::NOW).is_err() {
        return Verdict::Refused;
    }
    assert_eq!((target, body), (seeds::TARGET, Some(Sha256Digest::of(seeds::BODY))), "another request passed than was signed");
    Verdict::Accepted
}

/// `1.23` and `1.23.0` are one version.
fn version(text: &str) -> bool {
    let Ok(version) = text.parse::<Version>() else { return false };
    assert_eq!(version.to_string().parse(), Ok(version), "{text}");
    true
}

/// A text that is accepted is written as it was read.
fn same<T: FromStr + ToString>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else { return false };
    assert_eq!(value.to_string(), text);
    true
}
