//! All SQL. Everything that must survive is here, except the bytes of bundles.
//!
//! One connection writes, others read (SQLite in WAL mode). A write is made of steps on one [`Change`] and is durable when
//! [`Change::commit`] returns: `synchronous = FULL`, because a report that was acknowledged, a pause or an approval must outlive
//! a power cut. Writers share commits (see `jobs::writer`), so that this costs one flush for many reports.

mod content_keys;
mod deltas;
mod metadata;
mod outcomes;
mod rollouts;
mod secondaries;
mod vehicles;

pub use metadata::{StoredMetadata, StoredRoot};
pub use outcomes::{Counted, Event, NewEvent, Outcome};
pub use rollouts::NewRollout;
pub use vehicles::{NewToken, Token, TokenSecondary, VehicleRow};

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// How long a statement waits for a lock that another process (a backup) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Reads of the control plane that may run side by side; device polls read no SQL.
const READERS_MAX: u32 = 4;

/// What can go wrong between us and the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The database refused or could not be reached.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("schema of the database: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this program never writes.
    #[error("{table} holds a row that cannot be read: {detail}")]
    Corrupt {
        /// Table of the row.
        table: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl RegistryError {
    fn corrupt(table: &'static str, detail: impl core::fmt::Display) -> Self {
        Self::Corrupt { table, detail: detail.to_string() }
    }

    /// Whether a row with the same unique key exists already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.is_unique_violation(),
            Self::Database(_) | Self::Schema(_) | Self::Corrupt { .. } => false,
        }
    }
}

/// The database.
#[derive(Clone, Debug)]
pub struct Registry {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Registry {
    /// Opens the database in `file`, makes it when absent and brings its schema up to date.
    pub async fn open(file: &Path) -> Result<Self, RegistryError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        // After some errors, a full disk among them, SQLite rolls back by itself; sqlx then still counts a transaction and would begin
        // no other on that connection, ever. Such a connection is closed, and the next change gets a fresh one.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await?;
        sqlx::migrate!().run(&writer).await?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS_MAX).connect_with(options.read_only(true).create_if_missing(false)).await?;
        Ok(Self { writer, readers })
    }

    /// Begins a change. Changes run one after the other.
    pub async fn change(&self) -> Result<Change, RegistryError> {
        // `IMMEDIATE` takes the write lock now: a change that began by reading could otherwise fail in its middle.
        Ok(Change { transaction: self.writer.begin_with("BEGIN IMMEDIATE").await? })
    }

    /// Whether the database answers, and lets a change begin: a server that can only read acknowledges no report.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(self.change().await?.transaction.rollback().await?)
    }

    /// Closes all connections; the write-ahead log is folded into the database.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Steps that happen together or not at all. Dropped without [`Change::commit`], nothing happened.
#[derive(Debug)]
pub struct Change {
    transaction: Transaction<'static, Sqlite>,
}

impl Change {
    /// Makes the steps durable.
    pub async fn commit(self) -> Result<(), RegistryError> {
        Ok(self.transaction.commit().await?)
    }
}

/// SQLite integers are signed; a version or counter beyond `i64::MAX` was refused when it was parsed.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use switchback_signing::time::UnixTime;

    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    async fn limit_pages(registry: &Registry, pages: u32) {
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&registry.writer).await.unwrap();
    }

    async fn add_event(registry: &Registry, text: String) -> Result<(), RegistryError> {
        let mut change = registry.change().await?;
        change.add_event(&NewEvent { kind: "test", rollout: None, vehicle_id: None, text }, NOW).await?;
        change.commit().await
    }

    #[tokio::test]
    async fn a_full_disk_stops_no_change_but_its_own() {
        let data = tempfile::tempdir().unwrap();
        let registry = Registry::open(&data.path().join("registry.db")).await.unwrap();
        for _ in 0..2 {
            // SQLite raises this to the pages in use: no page more is to be had.
            limit_pages(&registry, 1).await;
            let Err(RegistryError::Database(sqlx::Error::Database(full))) = add_event(&registry, "x".repeat(1_000_000)).await else {
                panic!("a change found space where there was none");
            };
            assert_eq!(full.code().as_deref(), Some("13"), "{full}");
            limit_pages(&registry, u32::MAX - 1).await;
            registry.ping().await.unwrap();
            add_event(&registry, "there is space again".to_owned()).await.unwrap();
        }
        let written: Vec<String> = sqlx::query_scalar("SELECT text FROM events").fetch_all(&registry.readers).await.unwrap();
        assert_eq!(written, ["there is space again", "there is space again"]);
    }

    #[tokio::test]
    async fn what_vehicles_report_is_kept_for_a_time_and_in_bounds() {
        let data = tempfile::tempdir().unwrap();
        let registry = Registry::open(&data.path().join("registry.db")).await.unwrap();
        let word = |text: &str| text.to_owned();
        let mut change = registry.change().await.unwrap();
        for vehicle in ["v-1", "v-2"] {
            let row = VehicleRow {
                vehicle_id: word(vehicle),
                tenant: word("oem"),
                tier: word("ultra"),
                hardware_id: word("orin"),
                model_line: word("P7"),
                region: word("eu"),
                ecu_serial: format!("ecu-{vehicle}"),
                public_key: String::new(),
                sdk_version: word("0.1.0"),
                enrolled_at: NOW,
                last_seen: NOW,
                report_counter: 0,
                installed: None,
                confirmed_counter: 0,
                secondaries: Vec::new(),
                gave_up: Vec::new(),
                encryption_key: None,
                held: None,
            };
            change.add_vehicle(&row).await.unwrap();
            for counter in 1..=10 {
                let at = NOW.plus_days(i64::try_from(counter).unwrap());
                change.add_report(vehicle, counter, b"signed", 4, at).await.unwrap();
            }
        }
        for kind in ["vehicle_failed", "rollout_paused"] {
            change.add_event(&NewEvent { kind, rollout: None, vehicle_id: None, text: word(kind) }, NOW).await.unwrap();
        }
        assert_eq!(change.newest_report().await.unwrap(), Some(NOW.plus_days(10)));
        // 7 and 8 of both vehicles are too old, and the failure; a person's decision is not a matter of age.
        assert_eq!(change.forget_before(NOW.plus_days(9), 3).await.unwrap(), 3);
        assert_eq!(change.forget_before(NOW.plus_days(9), 3).await.unwrap(), 1);
        assert_eq!(change.forget_before(NOW.plus_days(9), 3).await.unwrap(), 0);
        change.commit().await.unwrap();
        let sql = "SELECT vehicle_id || ' ' || counter FROM reports ORDER BY vehicle_id, counter";
        let kept: Vec<String> = sqlx::query_scalar(sql).fetch_all(&registry.readers).await.unwrap();
        assert_eq!(kept, ["v-1 9", "v-1 10", "v-2 9", "v-2 10"]);
        let events: Vec<String> = sqlx::query_scalar("SELECT text FROM events").fetch_all(&registry.readers).await.unwrap();
        assert_eq!(events, ["rollout_paused"]);
    }
}
