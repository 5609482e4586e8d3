//! Content keys of encrypted bundles: sealed in the database, in memory as they are.
//!
//! The database, its backups and whoever reads them have nothing but what is sealed to a key of the key folder (HPKE, as for a vehicle).
//! Bundles lie in the object storage encrypted; who has both of these still needs the folder with the keys.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use arc_swap::ArcSwap;
use switchback_signing::{
    bundle::ContentKey,
    keys::{
        Sha256Digest,
        sealing::{DecryptionKey, EncryptionKey, Recipient, SealedContentKey, SealingError},
    },
};

use crate::{
    director::Addressee,
    keys::{KeyError, write_secret},
};

/// In the key folder.
const KEY_FILE: &str = "content-keys.json";

/// A content key as it lies in the database.
#[derive(Clone, Debug)]
pub struct StoredContentKey {
    /// The bundle, by the SHA-256 of its encrypted bytes.
    pub bundle: Sha256Digest,
    /// Sealed to the server's own key.
    pub sealed: SealedContentKey,
}

/// Why a content key was not sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentKeysError {
    /// No randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(#[from] getrandom::Error),
    /// A key to which nothing can be sealed; such keys are refused when they arrive.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The database has no key for a bundle that is published, or one that does not open.
    #[error("the server has no content key for the bundle with sha256 {0}; bring it with `switchback publish --content-key FILE`")]
    Missing(Sha256Digest),
}

/// The content keys that the server has, and the key that they are sealed to where they are written down.
#[derive(Debug)]
pub struct ContentKeys {
    file: PathBuf,
    own: DecryptionKey,
    known: ArcSwap<BTreeMap<Sha256Digest, ContentKey>>,
}

impl ContentKeys {
    /// Reads the server's own key in `folder`, or makes it; there are no content keys yet.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        let file = folder.join(KEY_FILE);
        let wrong = |source| KeyError::File { path: file.clone(), source };
        let own = match fs::read(&file).map(zeroize::Zeroizing::new) {
            Ok(bytes) => DecryptionKey::parse(&bytes).map_err(|source| KeyError::Content { path: file.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let own = DecryptionKey::from_seed(&*randomness()?);
                write_secret(&file, &own.to_bytes()).map_err(wrong)?;
                own
            }
            Err(error) => return Err(wrong(error)),
        };
        Ok(Self { file, own, known: ArcSwap::default() })
    }

    /// Takes up what the database holds. What does not open is told and left out: its release is withheld from polls by name, and the
    /// server does everything else.
    pub fn load(&self, stored: &[StoredContentKey]) {
        for StoredContentKey { bundle, sealed } in stored {
            match self.own.open(sealed, Recipient::Server, bundle) {
                Ok(key) => self.insert(*bundle, key),
                Err(error) => {
                    let file = self.file.display();
                    tracing::error!(bundle.sha256 = %bundle, %error, "{file} does not open a content key: publish it again with its release");
                }
            }
        }
    }

    /// A content key as it is written down.
    pub fn to_store(&self, bundle: Sha256Digest, key: &ContentKey) -> Result<StoredContentKey, ContentKeysError> {
        let sealed = SealedContentKey::seal(key, &self.own.encryption_key(), Recipient::Server, &bundle, &*randomness()?)?;
        Ok(StoredContentKey { bundle, sealed })
    }

    /// The content key of a bundle, sealed for the Primary of one vehicle.
    pub fn seal_for(&self, addressee: &Addressee, to: &EncryptionKey, bundle: &Sha256Digest) -> Result<SealedContentKey, ContentKeysError> {
        let key = self.find(bundle).ok_or(ContentKeysError::Missing(*bundle))?;
        let recipient = Recipient::Vehicle { vehicle_id: &addressee.vehicle_id, ecu_serial: &addressee.ecu_serial };
        Ok(SealedContentKey::seal(&key, to, recipient, bundle, &*randomness()?)?)
    }

    /// The content key of a bundle.
    #[must_use]
    pub fn find(&self, bundle: &Sha256Digest) -> Option<ContentKey> {
        self.known.load().get(bundle).cloned()
    }

    /// Makes a content key usable, once it is durable.
    pub fn insert(&self, bundle: Sha256Digest, key: ContentKey) {
        self.known.rcu(|known| {
            let mut next = BTreeMap::clone(known);
            next.insert(bundle, key.clone());
            next
        });
    }
}

fn randomness() -> Result<zeroize::Zeroizing<[u8; 32]>, getrandom::Error> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use switchback_signing::metadata::{EcuSerial, HardwareId, VehicleId};

    use super::*;

    fn key() -> ContentKey {
        ContentKey::from_bytes([7; 32])
    }

    #[test]
    fn content_keys_survive_a_restart_and_lie_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Sha256Digest::of(b"bundle");
        let stored = ContentKeys::open(folder.path()).unwrap().to_store(bundle, &key()).unwrap();
        let text = stored.sealed.to_json().to_string();
        assert!(!text.contains(&Sha256Digest::from_bytes([7; 32]).to_hex()) && !format!("{stored:?}").contains("7, 7, 7, 7"), "{text}");

        let again = ContentKeys::open(folder.path()).unwrap();
        again.load(std::slice::from_ref(&stored));
        assert_eq!(again.find(&bundle), Some(key()));
        assert_eq!(again.find(&Sha256Digest::of(b"another")), None);
        assert!(!format!("{again:?}").contains("7, 7, 7, 7"));

        // What another server wrote, or what was moved to another bundle, is not used.
        let other = tempfile::tempdir().unwrap();
        let other = ContentKeys::open(other.path()).unwrap();
        let moved = StoredContentKey { bundle: Sha256Digest::of(b"another"), ..stored.clone() };
        other.load(std::slice::from_ref(&stored));
        again.load(std::slice::from_ref(&moved));
        assert_eq!((other.find(&bundle), again.find(&moved.bundle)), (None, None));
    }

    #[test]
    fn a_content_key_is_sealed_for_one_vehicle() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, bundle) = (ContentKeys::open(folder.path()).unwrap(), Sha256Digest::of(b"bundle"));
        let addressee = Addressee {
            vehicle_id: VehicleId::new("v-1").unwrap(),
            ecu_serial: EcuSerial::new("ecu-1").unwrap(),
            hardware_id: HardwareId::new("orin").unwrap(),
            secondaries: Vec::new(),
        };
        let vehicle = DecryptionKey::from_seed(&[1; 32]);
        let missing = keys.seal_for(&addressee, &vehicle.encryption_key(), &bundle).unwrap_err();
        assert!(
            missing.to_string().starts_with(&format!("the server has no content key for the bundle with sha256 {bundle}")),
            "{missing}"
        );
        keys.insert(bundle, key());
        let sealed = keys.seal_for(&addressee, &vehicle.encryption_key(), &bundle).unwrap();
        let recipient = Recipient::Vehicle { vehicle_id: &addressee.vehicle_id, ecu_serial: &addressee.ecu_serial };
        assert_eq!(vehicle.open(&sealed, recipient, &bundle), Ok(key()));
        let again = keys.seal_for(&addressee, &vehicle.encryption_key(), &bundle).unwrap();
        assert_ne!(again, sealed, "no two seals are alike");
    }
}
