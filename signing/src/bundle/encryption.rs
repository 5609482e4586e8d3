//! One chunk at a time under the bundle's content key: AES-256-GCM (NIST SP 800-38D), after compression and before hashing.
//!
//! A chunk's nonce is its number, so that the chunks of one bundle need no room for nonces and none can stand in for another. That is safe
//! because a content key is for one bundle: [`ContentKey`] says what a second bundle under the same key would give away.

use alloc::vec::Vec;

use aes_gcm::{
    AeadInOut, Aes256Gcm, KeyInit, Nonce, Tag,
    aead::{consts::U12, inout::InOutBuf},
};

use super::{content_key::ContentKey, index::ENCRYPTED_GROWTH};

/// Encrypts and decrypts the chunks of one bundle. Its round keys are overwritten when it is dropped.
pub(super) struct ChunkCipher(Aes256Gcm);

impl ChunkCipher {
    pub(super) fn new(key: &ContentKey) -> Self {
        Self(Aes256Gcm::new(key.as_bytes().into()))
    }

    /// Encrypts the compressed bytes of chunk `number` in their place and appends the tag; `None` for more bytes than AES-GCM takes, 64 GiB.
    pub(super) fn seal(&self, number: usize, bytes: &mut Vec<u8>) -> Option<()> {
        let tag = self.0.encrypt_inout_detached(&nonce(number), b"", bytes.as_mut_slice().into()).ok()?;
        bytes.extend_from_slice(&tag);
        Some(())
    }

    /// Decrypts the stored bytes of chunk `number` to the front of `compressed`; `None` when the tag is not that of this key, this number
    /// and these bytes, and then nothing was written.
    pub(super) fn open<'a>(&self, number: usize, stored: &[u8], compressed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (encrypted, tag) = stored.split_last_chunk::<ENCRYPTED_GROWTH>()?;
        let compressed = compressed.get_mut(..encrypted.len())?;
        let buffer = InOutBuf::new(encrypted, compressed).ok()?;
        self.0.decrypt_inout_detached(&nonce(number), b"", buffer, &Tag::from(*tag)).ok()?;
        Some(compressed)
    }
}

/// The chunk's number as 96 bits, big-endian.
fn nonce(number: usize) -> Nonce<U12> {
    let mut nonce = Nonce::default();
    nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::keys::encoding::{from_hex, to_hex};

    /// Test case 14 of the GCM specification that NIST SP 800-38D came from: AES-256, everything zero, 16 bytes.
    #[test]
    fn the_first_chunk_under_the_key_of_zeros_is_the_specifications_example() {
        let cipher = ChunkCipher::new(&ContentKey::from_bytes([0; 32]));
        let mut bytes = vec![0; 16];
        cipher.seal(0, &mut bytes).unwrap();
        assert_eq!(to_hex(&bytes), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn a_chunk_opens_under_its_own_number_and_key_only() {
        let cipher = ChunkCipher::new(&ContentKey::from_bytes([7; 32]));
        let plain: Vec<u8> = (0..100).collect();
        let mut sealed = plain.clone();
        cipher.seal(0x0102_0304, &mut sealed).unwrap();
        assert_eq!(sealed.len(), plain.len() + ENCRYPTED_GROWTH);
        let mut buffer = [0; 200];
        assert_eq!(cipher.open(0x0102_0304, &sealed, &mut buffer), Some(plain.as_slice()));
        let mut untouched = [0; 200];
        assert_eq!(cipher.open(0x0102_0305, &sealed, &mut untouched), None);
        assert_eq!(ChunkCipher::new(&ContentKey::from_bytes([8; 32])).open(0x0102_0304, &sealed, &mut untouched), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            assert_eq!(cipher.open(0x0102_0304, &changed, &mut untouched), None, "byte {at}");
            assert_eq!(cipher.open(0x0102_0304, &sealed[..at], &mut untouched), None, "length {at}");
        }
        assert_eq!(untouched, [0; 200], "nothing is written before the tag was right");
        assert_eq!(cipher.open(0x0102_0304, &sealed, &mut [0; 99]), None, "a buffer that is too short");
    }

    #[test]
    fn the_nonce_is_the_chunks_number_in_96_bits() {
        assert_eq!(nonce(0x01_0203).as_slice(), from_hex("000000000000000000010203").unwrap());
    }
}
