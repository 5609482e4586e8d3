//! The vehicle's key: made once, never leaves the store.

use std::sync::Arc;

use switchback_signing::keys::{Ed25519Signer, Signer, file};

use super::VehicleError;
use crate::store::{Folder, Store};

const KEY_FILE: &str = "vehicle.json";

/// The key of this vehicle, made and kept at the first start. The file is readable by its owner only, and durable before it is used:
/// a key that the server knows and the vehicle has lost would lock the vehicle out.
pub(super) fn load_or_make(store: &mut Store) -> Result<Arc<dyn Signer + Send + Sync>, VehicleError> {
    if let Some(bytes) = store.read_document(Folder::Keys, KEY_FILE)? {
        return Ok(Arc::new(file::parse_secret(&bytes).map_err(VehicleError::Key)?));
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| VehicleError::Random { reason: error.to_string() })?;
    let signer = Ed25519Signer::from_seed(seed);
    store.write_document(Folder::Keys, KEY_FILE, &file::secret_to_bytes(&signer))?;
    Ok(Arc::new(signer))
}
