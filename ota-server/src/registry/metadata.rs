use sqlx::Row;
use switchback_signing::time::UnixTime;

use super::{Change, Registry, RegistryError, from_sql, to_sql};

/// One version of one role of the Image repository, as it was received or signed.
#[derive(Clone, Debug)]
pub struct StoredMetadata {
    /// Role, such as `root` or `vla-ultra`.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// The signed document.
    pub bytes: Vec<u8>,
}

/// One version of the Director's root.
#[derive(Clone, Debug)]
pub struct StoredRoot {
    /// Its version.
    pub version: u64,
    /// The signed document.
    pub bytes: Vec<u8>,
}

impl Registry {
    /// The newest version of every role of the Image repository.
    pub async fn image_metadata_newest(&self) -> Result<Vec<StoredMetadata>, RegistryError> {
        let sql = "SELECT role, version, bytes FROM image_metadata AS newest
                   WHERE version = (SELECT MAX(version) FROM image_metadata WHERE role = newest.role)";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        let stored =
            rows.iter().map(|row| StoredMetadata { role: row.get("role"), version: from_sql(row.get("version")), bytes: row.get("bytes") });
        Ok(stored.collect())
    }

    /// One version of one role of the Image repository.
    pub async fn image_metadata(&self, role: &str, version: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let sql = "SELECT bytes FROM image_metadata WHERE role = ? AND version = ?";
        let row = sqlx::query(sql).bind(role).bind(to_sql(version)).fetch_optional(&self.readers).await?;
        Ok(row.map(|row| row.get("bytes")))
    }

    /// All versions of the Director's root, oldest first.
    pub async fn director_roots(&self) -> Result<Vec<StoredRoot>, RegistryError> {
        let sql = "SELECT version, bytes FROM director_roots ORDER BY version";
        let rows = sqlx::query(sql).fetch_all(&self.readers).await?;
        let roots = rows.iter().map(|row| StoredRoot { version: from_sql(row.get("version")), bytes: row.get("bytes") });
        Ok(roots.collect())
    }

    /// One version of one role that the Director signed for a vehicle.
    pub async fn director_metadata(&self, vehicle_id: &str, role: &str, version: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let sql = "SELECT bytes FROM director_metadata WHERE vehicle_id = ? AND role = ? AND version = ?";
        let query = sqlx::query(sql).bind(vehicle_id).bind(role).bind(to_sql(version));
        Ok(query.fetch_optional(&self.readers).await?.map(|row| row.get("bytes")))
    }
}

impl Change {
    /// Adds one version of one role of the Image repository.
    pub async fn add_image_metadata(&mut self, new: &StoredMetadata, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO image_metadata (role, version, bytes, added_at) VALUES (?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(&new.role)
            .bind(to_sql(new.version))
            .bind(&new.bytes)
            .bind(now.seconds())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Adds one version of the Director's root.
    pub async fn add_director_root(&mut self, new: &StoredRoot, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO director_roots (version, bytes, added_at) VALUES (?, ?, ?)";
        let query = sqlx::query(sql).bind(to_sql(new.version)).bind(&new.bytes).bind(now.seconds());
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Adds what the Director signed for a vehicle and forgets all but the version before it.
    pub async fn add_director_metadata(&mut self, vehicle_id: &str, new: &StoredMetadata) -> Result<(), RegistryError> {
        let sql = "INSERT INTO director_metadata (vehicle_id, role, version, bytes) VALUES (?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(vehicle_id)
            .bind(&new.role)
            .bind(to_sql(new.version))
            .bind(&new.bytes)
            .execute(&mut *self.transaction)
            .await?;
        let forget = "DELETE FROM director_metadata WHERE vehicle_id = ? AND role = ? AND version < ?";
        sqlx::query(forget)
            .bind(vehicle_id)
            .bind(&new.role)
            .bind(to_sql(new.version.saturating_sub(1)))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}
