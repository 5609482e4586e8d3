#![allow(clippy::unwrap_used, clippy::expect_used)]
use alloc::string::ToString;

use super::*;

const ENCRYPTION: Encryption = Encryption { salt: [1; 16], iv: [2; 16] };

/// Keys that OpenSSL 3.0 and Python's `cryptography` wrote: `openssl genpkey`, and `private_bytes` with BestAvailableEncryption.
const FOREIGN: [(&str, &str); 5] = [
    ("openssl-ed25519", include_str!("../testdata/openssl-ed25519.pem")),
    ("openssl-ed25519-scrypt", include_str!("../testdata/openssl-ed25519-scrypt.pem")),
    ("openssl-p256", include_str!("../testdata/openssl-p256.pem")),
    ("openssl-p256-pbkdf2", include_str!("../testdata/openssl-p256-pbkdf2.pem")),
    ("cryptography-ed25519", include_str!("../testdata/cryptography-ed25519.pem")),
];

fn keys() -> [SecretKey; 2] {
    [Scheme::Ed25519, Scheme::EcdsaP256].map(|scheme| SecretKey::from_random(scheme, &[7; 32]).unwrap())
}

fn refused(pem: &str, passphrase: Option<&[u8]>) -> PemError {
    SecretKey::from_pem(pem, passphrase).unwrap_err()
}

#[test]
fn a_key_survives_a_round_trip_with_and_without_a_passphrase() {
    for key in keys() {
        let plain = key.to_plain_pem().unwrap();
        assert!(plain.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{}", *plain);
        assert_eq!(SecretKey::from_pem(&plain, None).unwrap().public_key(), key.public_key());
        let encrypted = key.to_encrypted_pem(b"correct horse", &ENCRYPTION).unwrap();
        assert!(encrypted.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{encrypted}");
        let read = SecretKey::from_pem(&encrypted, Some(b"correct horse")).unwrap();
        assert_eq!((read.public_key(), read.scheme()), (key.public_key(), key.scheme()));
        assert_eq!(refused(&encrypted, None), PemError::PassphraseMissing);
        assert_eq!(refused(&encrypted, Some(b"correct horsf")), PemError::WrongPassphrase);
    }
}

#[test]
fn keys_of_openssl_and_of_python_are_read() {
    for (name, pem) in FOREIGN {
        let key = SecretKey::from_pem(pem, Some(b"correct horse")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let signature = key.sign(b"message").unwrap();
        assert!(key.public_key().verify(b"message", signature.as_bytes()).is_ok(), "{name}");
        let scheme = if name.contains("p256") { "ecdsa-sha2-nistp256" } else { "ed25519" };
        assert_eq!((key.scheme().name(), key.public_key().scheme()), (scheme, scheme));
    }
}

#[test]
fn a_damaged_file_is_refused() {
    for key in keys() {
        let pem = key.to_encrypted_pem(b"correct horse", &ENCRYPTION).unwrap();
        let lines: Vec<&str> = pem.lines().collect();
        for cut in 0..lines.len() {
            let shorter = lines.iter().enumerate().filter(|(at, _)| *at != cut).map(|(_, line)| *line).collect::<Vec<_>>().join("\n");
            assert!(SecretKey::from_pem(&shorter, Some(b"correct horse")).is_err(), "without line {cut}");
        }
    }
    let [_, p256] = keys();
    let pem = p256.to_plain_pem().unwrap();
    assert_eq!(refused(&pem.replacen("MIG", "MIH", 1), None), PemError::NotAKey);
    // The secret of one key with the public half of another.
    let mut bytes = SecretDocument::from_pem(&pem).unwrap().1.as_bytes().to_vec();
    let secret = bytes.windows(32).position(|window| window == [7; 32]).unwrap();
    bytes[secret + 31] = 8;
    let other = SecretDocument::try_from(bytes).unwrap().to_pem("PRIVATE KEY", LineEnding::LF).unwrap();
    assert_eq!(refused(&other, None), PemError::Damaged);
}

#[test]
fn a_file_that_would_take_for_ever_to_open_is_refused_before_it_is_tried() {
    let pem = keys()[0].to_encrypted_pem(b"correct horse", &ENCRYPTION).unwrap();
    let mut costly = SecretDocument::from_pem(&pem).unwrap().1.as_bytes().to_vec();
    // INTEGERs: N of 2 bytes, r and p of one.
    let parameters = [0x02, 0x02, 0x40, 0x00, 0x02, 0x01, 8, 0x02, 0x01, 5];
    let at = costly.windows(parameters.len()).position(|window| window == parameters).unwrap();
    // The highest number of passes that one byte holds, over four times the memory of ours.
    costly[at + 9] = 127;
    costly[at + 6] = 32;
    let costly = SecretDocument::try_from(costly).unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).unwrap();
    assert_eq!(
        refused(&costly, Some(b"correct horse")).to_string(),
        "the key's encryption asks for 127 passes over 67108864 bytes, more than the 1073741824 bytes, or 4294967296 in all passes, that is allowed"
    );
}

#[test]
fn a_file_whose_costs_are_none_is_refused() {
    let check = |change: fn(&mut Parameters), expected: &str| {
        let mut parameters = Parameters::generate_scrypt_aes256cbc(Params::new(14, 8, 5).unwrap(), &[1; 16], [2; 16]).unwrap();
        change(&mut parameters);
        let refused = check_costs(Some(&parameters), &OpeningCosts::MAX);
        assert_eq!(refused, Err(PemError::Encryption { reason: expected.into() }));
    };
    check(|parameters| set_scrypt(parameters, 0, 8, 5), "scrypt with N 0, r 8, p 5");
    check(|parameters| set_scrypt(parameters, 1, 8, 5), "scrypt with N 1, r 8, p 5");
    check(|parameters| set_scrypt(parameters, 2, 0, 5), "scrypt with N 2, r 0, p 5");
    check(|parameters| set_scrypt(parameters, 2, 8, 0), "scrypt with N 2, r 8, p 0");
    check(
        |parameters| {
            *parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(0, &[1; 16], [2; 16]).unwrap();
        },
        "PBKDF2 of no rounds",
    );
}

/// What a file may say, and [`Params`] may not.
fn set_scrypt(parameters: &mut Parameters, n: u64, r: u16, p: u16) {
    let Kdf::Scrypt(scrypt) = &mut parameters.kdf else { panic!("{parameters:?}") };
    (scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization) = (n, r, p);
}

#[test]
fn what_opening_may_cost_counts_all_that_it_would_take() {
    let asks = |log_n, r, p| Parameters::generate_scrypt_aes256cbc(Params::new(log_n, r, p).unwrap(), &[1; 16], [2; 16]).unwrap();
    let refused = |parameters: &Parameters, limit: &OpeningCosts| check_costs(Some(parameters), limit).is_err();
    let check = |parameters: Parameters, memory_bytes: u64, passes_bytes: u64| {
        let limit = OpeningCosts { memory_bytes, passes_bytes, rounds: 0 };
        assert!(!refused(&parameters, &limit), "{parameters:?}");
        assert!(refused(&parameters, &OpeningCosts { memory_bytes: memory_bytes - 1, ..limit }), "memory of {parameters:?}");
        assert!(refused(&parameters, &OpeningCosts { passes_bytes: passes_bytes - 1, ..limit }), "passes of {parameters:?}");
    };
    check(asks(14, 8, 5), 128 * 8 * (16384 + 5), 5 * 128 * 8 * 16384);
    // Little to go through, and much to begin with.
    check(asks(1, 60_000, 1000), 128 * 60_000 * (2 + 1000), 1000 * 128 * 60_000 * 2);
    for beyond in [asks(20, 8, 1), asks(1, 60_000, 1000), asks(14, 8, 257), asks(40, 65_535, 16_384)] {
        assert!(refused(&beyond, &OpeningCosts::MAX), "{beyond:?}");
    }
    for honest in [asks(14, 8, 1), asks(17, 8, 1), asks(19, 8, 1), asks(14, 8, 5)] {
        assert!(!refused(&honest, &OpeningCosts::MAX), "{honest:?}");
    }
}

#[test]
fn public_halves_are_read_and_written() {
    for key in keys() {
        let pem = public_to_pem(&key.public_key()).unwrap();
        assert_eq!(parse_public(&pem), Some(key.public_key()));
    }
    let pem = include_str!("../testdata/openssl-public.pem");
    let public = SecretKey::from_pem(FOREIGN[0].1, None).unwrap().public_key();
    assert_eq!((parse_public(pem), public_to_pem(&public).unwrap()), (Some(public), pem.into()));
    assert_eq!(parse_public(FOREIGN[0].1), None);
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let check = |pem: &str, expected: &str| assert_eq!(refused(pem, Some(b"correct horse")).to_string(), expected);
    let public = include_str!("../testdata/openssl-public.pem");
    for pem in ["", "{}", public, &"x".repeat(KEY_FILE_BYTES_MAX + 1)] {
        check(pem, "the file is no private key in PEM form (PRIVATE KEY or ENCRYPTED PRIVATE KEY)");
    }
    check(
        include_str!("../testdata/openssl-rsa.pem"),
        "the file holds a private key that is neither ed25519 nor ecdsa-sha2-nistp256 (its algorithm is 1.2.840.113549.1.1.1)",
    );
    check(
        include_str!("../testdata/openssl-p384.pem"),
        "the file holds a private key that is neither ed25519 nor ecdsa-sha2-nistp256 (its algorithm is 1.3.132.0.34)",
    );
    let des3 = refused(include_str!("../testdata/openssl-des3.pem"), Some(b"correct horse")).to_string();
    assert!(des3.starts_with("the file is encrypted in another way than PBES2 with scrypt or PBKDF2 and AES, or was damaged ("), "{des3}");
    assert_eq!(PemError::PassphraseMissing.to_string(), "the key is encrypted, and no passphrase was given");
    assert_eq!(PemError::Damaged.to_string(), "the private key in the file is damaged");
    assert_eq!(PemError::WrongPassphrase.to_string(), "the passphrase does not open the key: it is another one, or the file was damaged");
    assert_eq!(
        "rsa".parse::<Scheme>().unwrap_err().to_string(),
        "\"rsa\" is no scheme that keys can be made for: ed25519, ecdsa-sha2-nistp256"
    );
    assert_eq!("ed25519".parse(), Ok(Scheme::Ed25519));
}

#[test]
fn a_secret_is_not_printed() {
    for key in keys() {
        let text = alloc::format!("{key:?}");
        assert!(!text.contains("0707070707") && text.contains("secret"), "{text}");
    }
}
