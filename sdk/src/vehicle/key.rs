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
    load_or_make_from(store, of_system)
}

fn load_or_make_from(
    store: &mut Store,
    randomness: impl FnOnce(&mut [u8]) -> Result<(), String>,
) -> Result<Arc<dyn Signer + Send + Sync>, VehicleError> {
    if let Some(bytes) = store.read_document(Folder::Keys, KEY_FILE)? {
        return Ok(Arc::new(file::parse_secret(&bytes).map_err(VehicleError::Key)?));
    }
    let signer = Ed25519Signer::from_seed(*seed(randomness)?);
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
    let key = DecryptionKey::from_seed(&*seed(of_system)?);
    store.write_document(Folder::Keys, DECRYPTION_KEY_FILE, &key.to_bytes())?;
    Ok(Arc::new(key))
}

fn of_system(bytes: &mut [u8]) -> Result<(), String> {
    getrandom::fill(bytes).map_err(|error| error.to_string())
}

fn seed(randomness: impl FnOnce(&mut [u8]) -> Result<(), String>) -> Result<Zeroizing<[u8; 32]>, VehicleError> {
    let mut seed = Zeroizing::new([0; 32]);
    randomness(&mut *seed).map_err(|reason| VehicleError::Random { reason })?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::store::sim::SimFs;

    fn failure(store: &mut Store, randomness: impl FnOnce(&mut [u8]) -> Result<(), String>) -> (u32, String) {
        let Err(error) = load_or_make_from(store, randomness) else { panic!("there is a key") };
        (error.number(), error.to_string())
    }

    #[test]
    fn no_key_is_made_without_random_numbers_and_none_in_place_of_a_damaged_one() {
        let (mut store, _) = Store::open(Arc::new(SimFs::new())).unwrap();
        let (number, text) = failure(&mut store, |_| Err("no entropy source".to_owned()));
        assert_eq!((number, text.as_str()), (603, "the system gives no random numbers: no entropy source"));
        assert_eq!(store.read_document(Folder::Keys, KEY_FILE).unwrap(), None, "nothing that could be guessed is kept");

        let made = load_or_make(&mut store).unwrap().public_key();
        assert_eq!(load_or_make_from(&mut store, |_| panic!("it has one")).unwrap().public_key(), made);

        let whole = store.read_document(Folder::Keys, KEY_FILE).unwrap().unwrap();
        store.write_document(Folder::Keys, KEY_FILE, &whole[..whole.len() / 2]).unwrap();
        let (number, text) = failure(&mut store, |_| panic!("the server knows the one that is damaged"));
        let expected = "the vehicle's key in the store cannot be used; restore keys/vehicle.json, or remove it and enroll the vehicle anew";
        assert_eq!((number, text.as_str()), (601, expected));
    }
}
