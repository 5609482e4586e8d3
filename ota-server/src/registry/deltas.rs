//! Deltas, by what they restore and what they start from.

use sqlx::Row;
use switchback_signing::{keys::Sha256Digest, metadata::DeltaRef, time::UnixTime};

use super::{Change, Registry, RegistryError};

impl Registry {
    /// All deltas, each with the SHA-256 of the chunk index of the release that it restores.
    pub async fn deltas(&self) -> Result<Vec<(Sha256Digest, DeltaRef)>, RegistryError> {
        let rows = sqlx::query("SELECT * FROM deltas ORDER BY release_sha256, base_sha256").fetch_all(&self.readers).await?;
        let deltas = rows.iter().map(|row| {
            let digest = |column: &str| {
                let text: &str = row.get(column);
                Sha256Digest::parse(text).ok_or_else(|| RegistryError::corrupt("deltas", format!("{text:?} is no SHA-256")))
            };
            let length: i64 = row.get("length");
            let length = u64::try_from(length).map_err(|_| RegistryError::corrupt("deltas", format!("{length} is no length")))?;
            let delta = DeltaRef { base_sha256: digest("base_sha256")?, path: row.get("path"), length, sha256: digest("sha256")? };
            Ok((digest("release_sha256")?, delta))
        });
        deltas.collect()
    }
}

impl Change {
    /// Adds a delta to a release, in place of one from the same base.
    pub async fn save_delta(&mut self, release: &Sha256Digest, delta: &DeltaRef, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO deltas (release_sha256, base_sha256, path, length, sha256, added_at) VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET path = excluded.path, length = excluded.length, sha256 = excluded.sha256,
                   added_at = excluded.added_at";
        sqlx::query(sql)
            .bind(release.to_hex())
            .bind(delta.base_sha256.to_hex())
            .bind(&delta.path)
            // Bounded by what an index may have when it was read.
            .bind(i64::try_from(delta.length).unwrap_or(i64::MAX))
            .bind(delta.sha256.to_hex())
            .bind(now.seconds())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Forgets a delta; says whether there was one.
    pub async fn remove_delta(&mut self, release: &Sha256Digest, base: &Sha256Digest) -> Result<bool, RegistryError> {
        let sql = "DELETE FROM deltas WHERE release_sha256 = ? AND base_sha256 = ?";
        let done = sqlx::query(sql).bind(release.to_hex()).bind(base.to_hex()).execute(&mut *self.transaction).await?;
        Ok(done.rows_affected() > 0)
    }
}
