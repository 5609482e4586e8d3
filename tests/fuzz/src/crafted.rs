//! Bundles that no writer makes: any chunks at all, behind an index whose hashes are right.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Nonce};
use switchback_signing::{bundle::ContentKey, digest::Sha256Digest};

/// Length of a row of the index, bytes.
const ROW_LENGTH: usize = 73;

/// The bundle of somebody whose keys are good and whose intentions are not.
#[derive(Clone, Debug, Default)]
pub struct CraftedBundle {
    /// The stored bytes of each chunk.
    pub chunks: Vec<Vec<u8>>,
    rows: Vec<u8>,
    tar_length: u64,
    /// The method of encryption, as the index's header has it.
    method: u16,
}

impl CraftedBundle {
    /// Adds a chunk; the index says that `stored` decodes to `raw`.
    pub fn push(&mut self, stored: Vec<u8>, raw: &[u8]) {
        self.push_as(stored, raw.len() as u32, Sha256Digest::of(raw));
    }

    /// Adds a chunk; the index says that `stored` decodes to so many bytes with this hash.
    pub fn push_as(&mut self, stored: Vec<u8>, raw_length: u32, raw_sha256: Sha256Digest) {
        self.rows.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        self.rows.extend_from_slice(&raw_length.to_le_bytes());
        self.rows.push(0);
        self.rows.extend_from_slice(Sha256Digest::of(&stored).as_bytes());
        self.rows.extend_from_slice(raw_sha256.as_bytes());
        self.tar_length += u64::from(raw_length);
        self.chunks.push(stored);
    }

    /// Adds a chunk that is stored uncompressed.
    pub fn push_raw(&mut self, raw: &[u8]) {
        self.push(raw_frame(raw), raw);
    }

    /// The same chunks, encrypted. Written from the format's description, so that the reader is held against that and not against our writer.
    pub fn encrypted(&self, key: &ContentKey) -> Self {
        let cipher = Aes256Gcm::new(key.as_bytes().into());
        let mut sealed = Self { method: 1, tar_length: self.tar_length, ..Self::default() };
        for ((number, chunk), row) in self.chunks.iter().enumerate().zip(self.rows.chunks(ROW_LENGTH)) {
            let (mut chunk, mut row, mut nonce) = (chunk.clone(), row.to_vec(), [0; 12]);
            nonce[8..].copy_from_slice(&(number as u32).to_be_bytes());
            let tag = cipher.encrypt_inout_detached(&Nonce::from(nonce), b"", chunk.as_mut_slice().into()).expect("a chunk is short");
            chunk.extend_from_slice(&tag);
            row[..4].copy_from_slice(&(chunk.len() as u32).to_le_bytes());
            row[9..41].copy_from_slice(Sha256Digest::of(&chunk).as_bytes());
            sealed.rows.extend_from_slice(&row);
            sealed.chunks.push(chunk);
        }
        sealed
    }

    /// The bytes of the bundle.
    pub fn bundle(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// The chunk index, which says that `manifest` is the content of `manifest.json`.
    pub fn index(&self, manifest: &[u8]) -> Vec<u8> {
        let bundle = self.bundle();
        let mut bytes = b"SWBX\x01\x00".to_vec();
        bytes.extend_from_slice(&self.method.to_le_bytes());
        bytes.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.tar_length.to_le_bytes());
        bytes.extend_from_slice(&(bundle.len() as u64).to_le_bytes());
        bytes.extend_from_slice(Sha256Digest::of(&bundle).as_bytes());
        bytes.extend_from_slice(Sha256Digest::of(manifest).as_bytes());
        bytes.extend_from_slice(&self.rows);
        bytes
    }
}

/// A zstd frame of one uncompressed block; one that no decoder takes when there is more than a block can hold, 128 KiB.
fn raw_frame(raw: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend_from_slice(&(raw.len() as u32).to_le_bytes());
    frame.extend_from_slice(&((raw.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(raw);
    frame
}
