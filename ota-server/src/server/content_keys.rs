//! The content keys of encrypted bundles: publishers bring them, vehicles get them sealed.

use std::sync::Arc;

use switchback_signing::{bundle::ContentKey, keys::Sha256Digest};

use super::{Server, to_the_end};
use crate::{
    content_keys::ContentKeysError,
    registry::{NewEvent, RegistryError},
};

/// Why a content key was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentKeyError {
    /// Vehicles may have the other one.
    #[error("the bundle with sha256 {0} is published, and the server has another content key for it")]
    Differs(Sha256Digest),
    /// It could not be sealed.
    #[error(transparent)]
    Sealing(#[from] ContentKeysError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Server {
    /// Takes the content key of a bundle. The same once more changes nothing; another one in its place is taken until the bundle is
    /// published: then a mistake would keep vehicles from a release that people approved.
    pub async fn add_content_key(self: &Arc<Self>, bundle: Sha256Digest, key: ContentKey) -> Result<(), ContentKeyError> {
        let server = Arc::clone(self);
        to_the_end(async move { server.store_content_key(bundle, key).await }).await
    }

    /// Whether the server has the content key of a bundle.
    #[must_use]
    pub fn has_content_key(&self, bundle: &Sha256Digest) -> bool {
        self.content_keys.find(bundle).is_some()
    }

    async fn store_content_key(&self, bundle: Sha256Digest, key: ContentKey) -> Result<(), ContentKeyError> {
        let _control = self.control.lock().await;
        match self.content_keys.find(&bundle) {
            Some(known) if known == key => return Ok(()),
            Some(_) if self.rules.load().releases.iter().any(|release| release.encrypted_bundle == Some(bundle)) => {
                return Err(ContentKeyError::Differs(bundle));
            }
            Some(_) | None => {}
        }
        let (stored, now) = (self.content_keys.to_store(bundle, &key)?, self.now());
        let mut change = self.registry.change().await?;
        change.save_content_key(&stored, now).await?;
        let text = format!("the content key of the bundle with sha256 {bundle} was stored");
        change.add_event(&NewEvent { kind: "content_key_stored", rollout: None, vehicle_id: None, text }, now).await?;
        change.commit().await?;
        self.content_keys.insert(bundle, key);
        tracing::info!(bundle.sha256 = %bundle, "content key stored");
        Ok(())
    }
}
