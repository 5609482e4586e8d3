//! Encrypted key files, in DER: a changed byte is a changed field there, and in PEM next to nothing.

use switchback_signing::keys::{
    Signer,
    pem::{OpeningCosts, PemError, SecretKey},
};

use crate::Verdict;

/// What opens the kept inputs.
const PASSPHRASE: &[u8] = b"correct horse";

/// So little that a thousand inputs take seconds. That a file's costs are held against a limit before they are spent is what is asked: one
/// that is spent without shows in the memory and the time of the run.
const COSTS: OpeningCosts = OpeningCosts { memory_bytes: 64 << 10, passes_bytes: 256 << 10, rounds: 256 };

/// Opens nothing.
const NOTHING: OpeningCosts = OpeningCosts { memory_bytes: 0, passes_bytes: 0, rounds: 0 };

/// Accepts what names a way to encrypt that was gone: most changes leave a file that no passphrase opens.
pub(crate) fn run(input: &[u8]) -> Verdict {
    let pem = pem(input);
    let opened = SecretKey::from_pem_within(&pem, Some(PASSPHRASE), &COSTS);
    let unopened = SecretKey::from_pem_within(&pem, None, &COSTS);
    let refused = SecretKey::from_pem_within(&pem, Some(PASSPHRASE), &NOTHING).map(|_| ());
    match &opened {
        Ok(key) => {
            let signature = key.sign(b"message").expect("a key in memory signs");
            assert!(key.public_key().verify(b"message", signature.as_bytes()).is_ok());
            let again = SecretKey::from_pem(&key.to_plain_pem().expect("what was read can be written"), None);
            assert_eq!(again.expect("what we write we read").public_key(), key.public_key());
        }
        // Neither the costs nor what is known without a passphrase depends on it.
        Err(error @ (PemError::Costs { .. } | PemError::NotAKey)) => {
            assert_eq!(unopened.as_ref().err(), Some(error));
            return Verdict::Refused;
        }
        Err(PemError::Encryption { .. }) => return Verdict::Refused,
        Err(_) => {}
    }
    assert_eq!(unopened.err(), Some(PemError::PassphraseMissing), "a key without its passphrase");
    assert!(matches!(refused, Err(PemError::Costs { .. })), "opened for nothing");
    Verdict::Accepted
}

/// RFC 7468, lines of 64 characters.
fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN ENCRYPTED PRIVATE KEY-----");
    for (place, chunk) in der.chunks(3).enumerate() {
        if place % 16 == 0 {
            text.push('\n');
        }
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        let digit = |place: usize| char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]);
        text.extend((0..4).map(|place| if place <= chunk.len() { digit(place) } else { '=' }));
    }
    text.push_str("\n-----END ENCRYPTED PRIVATE KEY-----\n");
    text
}
