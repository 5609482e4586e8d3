//! Keys to which content keys are sealed, and content keys as they lie here: sealed.

use std::collections::BTreeMap;

use sqlx::Row;
use switchback_signing::{
    keys::{Sha256Digest, sealing::EncryptionKey, sealing::SealedContentKey},
    metadata::json,
    time::UnixTime,
};

use super::{Change, Registry, RegistryError};
use crate::content_keys::StoredContentKey;

/// Longest sealed key, bytes; ours have some 300.
const SEALED_BYTES_MAX: usize = 4_096;

impl Registry {
    /// All content keys, in the order of their bundles.
    pub async fn content_keys(&self) -> Result<Vec<StoredContentKey>, RegistryError> {
        let rows = sqlx::query("SELECT * FROM content_keys ORDER BY bundle_sha256").fetch_all(&self.readers).await?;
        let corrupt = |error: &dyn core::fmt::Display| RegistryError::corrupt("content_keys", error);
        let stored = rows.iter().map(|row| {
            let (bundle, sealed): (&str, &str) = (row.get("bundle_sha256"), row.get("sealed"));
            let json = json::parse(sealed.as_bytes(), SEALED_BYTES_MAX).map_err(|error| corrupt(&error))?;
            Ok(StoredContentKey {
                bundle: Sha256Digest::parse(bundle).ok_or_else(|| corrupt(&format!("{bundle:?} is no SHA-256")))?,
                sealed: SealedContentKey::from_json(json, "sealed").map_err(|error| corrupt(&error))?,
            })
        });
        stored.collect()
    }

    /// The keys that vehicles have told, by vehicle.
    pub(super) async fn encryption_keys(&self) -> Result<BTreeMap<String, EncryptionKey>, RegistryError> {
        let sql = "SELECT vehicle_id, encryption_key FROM vehicles WHERE encryption_key IS NOT NULL";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        let keys = rows.iter().map(|row| {
            let text: &str = row.get("encryption_key");
            let key = Sha256Digest::parse(text).and_then(|bytes| EncryptionKey::from_bytes(*bytes.as_bytes()).ok());
            let corrupt = || RegistryError::corrupt("vehicles", format!("{text:?} is no encryption key"));
            Ok((row.get("vehicle_id"), key.ok_or_else(corrupt)?))
        });
        keys.collect()
    }
}

impl Change {
    /// Adds the content key of a bundle, in place of one that there may be.
    pub async fn save_content_key(&mut self, new: &StoredContentKey, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO content_keys (bundle_sha256, sealed, added_at) VALUES (?, ?, ?)
                   ON CONFLICT DO UPDATE SET sealed = excluded.sealed, added_at = excluded.added_at";
        sqlx::query(sql)
            .bind(new.bundle.to_hex())
            .bind(new.sealed.to_json().to_string())
            .bind(now.seconds())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Notes the key that a vehicle has told, or that it has none.
    pub async fn save_encryption_key(&mut self, vehicle_id: &str, key: Option<&EncryptionKey>) -> Result<(), RegistryError> {
        let key = key.map(|key| Sha256Digest::from_bytes(*key.as_bytes()).to_hex());
        let sql = "UPDATE vehicles SET encryption_key = ? WHERE vehicle_id = ?";
        sqlx::query(sql).bind(key).bind(vehicle_id).execute(&mut *self.transaction).await?;
        Ok(())
    }
}
