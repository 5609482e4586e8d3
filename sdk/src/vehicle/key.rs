//! The vehicle's keys: made once, never leave the store.

use std::sync::Arc;

use switchback_signing::keys::{Ed25519Signer, Signer, file, sealing::DecryptionKey};
use zeroize::Zeroizing;

use super::VehicleError;
use crate::store::{Folder, Store};

const KEY_FILE: &str = "vehicle.json";
const DECRYPTION_KEY_FILE: &str = "vehicle-encryption.json";

/// The key of this vehicle, made and kept at the first start. The file is readable by its owner only, and durable before it is used:
/// a key that the server knows and the vehicle has lost would lock the vehicle out.
pub(super) fn load_or_make(store: &mut Store) -> Result<Arc<dyn Signer + Send + Sync>, VehicleError> {
    if let Some(bytes) = store.read_document(Folder::Keys, KEY_FILE)? {
        return Ok(Arc::new(file::parse_secret(&bytes).map_err(VehicleError::Key)?));
    }
    let signer = Ed25519Signer::from_seed(*seed()?);
    store.write_document(Folder::Keys, KEY_FILE, &file::secret_to_bytes(&signer))?;
    Ok(Arc::new(signer))
}

/// The key that the content keys of encrypted releases are sealed to. A vehicle from before there were any makes it at its next start, and
/// so does one whose file is damaged: the next report tells the server, which seals what is assigned anew. Nothing is lost with it that
/// the vehicle could not get again, so that it never keeps a vehicle from starting.
pub(super) fn load_or_make_decryption(store: &mut Store) -> Result<Arc<DecryptionKey>, VehicleError> {
    let bytes = store.read_document(Folder::Keys, DECRYPTION_KEY_FILE)?.map(Zeroizing::new);
    match bytes.map(|bytes| DecryptionKey::parse(&bytes)) {
        Some(Ok(key)) => return Ok(Arc::new(key)),
        Some(Err(error)) => tracing::error!(%error, "the key that opens encrypted releases is damaged and made anew"),
        None => {}
    }
    let key = DecryptionKey::from_seed(&*seed()?);
    store.write_document(Folder::Keys, DECRYPTION_KEY_FILE, &key.to_bytes())?;
    Ok(Arc::new(key))
}

fn seed() -> Result<Zeroizing<[u8; 32]>, VehicleError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| VehicleError::Random { reason: error.to_string() })?;
    Ok(seed)
}
