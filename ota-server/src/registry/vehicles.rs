use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use sqlx::{
    Row, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use switchback_signing::{keys::sealing::EncryptionKey, time::UnixTime};

use super::{Change, Registry, RegistryError, from_sql, to_sql};
use crate::{
    director::{Held, Installed},
    fleet::Secondary,
    rollout::{GaveUp, ReleaseName},
};

/// A vehicle as it stands in the database.
#[derive(Clone, Debug)]
pub struct VehicleRow {
    /// Pseudonym of the vehicle.
    pub vehicle_id: String,
    /// The automaker it belongs to.
    pub tenant: String,
    /// Product level.
    pub tier: String,
    /// Its driving computer.
    pub hardware_id: String,
    /// Model line.
    pub model_line: String,
    /// Market.
    pub region: String,
    /// Serial of the Primary.
    pub ecu_serial: String,
    /// Its public key, as a TUF key object.
    pub public_key: String,
    /// Version of the SDK at enrollment.
    pub sdk_version: String,
    /// When it enrolled.
    pub enrolled_at: UnixTime,
    /// When it was last heard of; lossy by a second or two.
    pub last_seen: UnixTime,
    /// Counter of its last vehicle version manifest.
    pub report_counter: u64,
    /// What it last reported as installed.
    pub installed: Option<Installed>,
    /// Release counter of the release that it last confirmed.
    pub confirmed_counter: u64,
    /// Its other ECUs, in a table of their own.
    pub secondaries: Vec<Secondary>,
    /// What it gave up for good, in a table of its own.
    pub gave_up: Vec<GaveUp>,
    /// The key that its content keys are sealed to, once it has told one.
    pub encryption_key: Option<EncryptionKey>,
    /// What the Director last signed for it.
    pub held: Option<Held>,
}

/// A one-time token for one vehicle, as its hash.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// SHA-256 of the token; the token itself is shown once and kept nowhere.
    pub sha256: [u8; 32],
    /// What the vehicle that shows it will be.
    pub token: Token,
    /// After this it is worthless.
    pub expires_at: UnixTime,
}

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Pseudonym of the vehicle.
    pub vehicle_id: String,
    /// The automaker it belongs to.
    pub tenant: String,
    /// Product level.
    pub tier: String,
    /// Its driving computer.
    pub hardware_id: String,
    /// Model line.
    pub model_line: String,
    /// Market.
    pub region: String,
    /// Whether the vehicle is known, and this binds another key to it.
    pub replaces: bool,
    /// The Secondaries that the vehicle must have, where whoever issued the token said so.
    pub secondaries: Option<BTreeSet<TokenSecondary>>,
}

/// A Secondary that a token expects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSecondary {
    /// Its serial.
    pub ecu_serial: String,
    /// Its kind of computer.
    pub hardware_id: String,
}

impl Registry {
    /// All vehicles, in the order of their ids.
    pub async fn vehicles(&self) -> Result<Vec<VehicleRow>, RegistryError> {
        let rows = sqlx::query("SELECT * FROM given_up ORDER BY at").fetch_all(&self.readers).await?;
        let mut given_up: HashMap<String, Vec<GaveUp>> = HashMap::new();
        for row in rows {
            given_up.entry(row.get("vehicle_id")).or_default().push(gave_up(&row));
        }
        let rows = sqlx::query("SELECT * FROM vehicles ORDER BY vehicle_id").fetch_all(&self.readers).await?;
        let mut vehicles = rows.iter().map(vehicle).collect::<Result<Vec<_>, _>>()?;
        let mut secondaries = self.secondaries().await?;
        let mut encryption_keys = self.encryption_keys().await?;
        for vehicle in &mut vehicles {
            vehicle.secondaries = secondaries.remove(&vehicle.vehicle_id).unwrap_or_default();
            vehicle.gave_up = given_up.remove(&vehicle.vehicle_id).unwrap_or_default();
            vehicle.encryption_key = encryption_keys.remove(&vehicle.vehicle_id);
        }
        Ok(vehicles)
    }
}

impl Registry {
    /// Whether there was ever a token with this hash. Needs no turn at the one writer, for which whoever guesses would keep others waiting.
    pub async fn knows_token(&self, sha256: &[u8; 32]) -> Result<bool, RegistryError> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM enrollment_tokens WHERE token_sha256 = ?)").bind(sha256.as_slice());
        Ok(query.fetch_one(&self.readers).await?)
    }
}

impl Change {
    /// Adds a token. The older unused tokens of the same vehicle become worthless. Returns whether there was one that was still good.
    pub async fn add_token(&mut self, new: &NewToken, now: UnixTime) -> Result<bool, RegistryError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM enrollment_tokens WHERE vehicle_id = ? AND used_at IS NULL AND expires_at > ?)";
        let query = sqlx::query_scalar(sql).bind(&new.token.vehicle_id).bind(now.seconds());
        let replaces: bool = query.fetch_one(&mut *self.transaction).await?;
        let withdraw = "DELETE FROM enrollment_tokens WHERE vehicle_id = ? AND used_at IS NULL";
        sqlx::query(withdraw).bind(&new.token.vehicle_id).execute(&mut *self.transaction).await?;
        let sql = "INSERT INTO enrollment_tokens
                   (token_sha256, vehicle_id, tenant, tier, hardware_id, model_line, region, replaces, secondaries, created_at, expires_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let secondaries = new.token.secondaries.as_ref().map(serde_json::to_string).transpose();
        let secondaries = secondaries.map_err(|error| RegistryError::corrupt("enrollment_tokens", error))?;
        sqlx::query(sql)
            .bind(new.sha256.as_slice())
            .bind(&new.token.vehicle_id)
            .bind(&new.token.tenant)
            .bind(&new.token.tier)
            .bind(&new.token.hardware_id)
            .bind(&new.token.model_line)
            .bind(&new.token.region)
            .bind(new.token.replaces)
            .bind(secondaries)
            .bind(now.seconds())
            .bind(new.expires_at.seconds())
            .execute(&mut *self.transaction)
            .await?;
        Ok(replaces)
    }

    /// The unused, unexpired token with this hash.
    pub async fn token(&mut self, sha256: &[u8; 32], now: UnixTime) -> Result<Option<Token>, RegistryError> {
        let sql = "SELECT * FROM enrollment_tokens WHERE token_sha256 = ? AND used_at IS NULL AND expires_at > ?";
        let query = sqlx::query(sql).bind(sha256.as_slice()).bind(now.seconds());
        let row = query.fetch_optional(&mut *self.transaction).await?;
        let Some(row) = row else { return Ok(None) };
        let secondaries: Option<&str> = row.get("secondaries");
        let secondaries = secondaries.map(serde_json::from_str).transpose();
        Ok(Some(Token {
            vehicle_id: row.get("vehicle_id"),
            tenant: row.get("tenant"),
            tier: row.get("tier"),
            hardware_id: row.get("hardware_id"),
            model_line: row.get("model_line"),
            region: row.get("region"),
            replaces: row.get("replaces"),
            secondaries: secondaries.map_err(|error| RegistryError::corrupt("enrollment_tokens", error))?,
        }))
    }

    /// The vehicle that a used token with this hash enrolled.
    pub async fn enrolled_by(&mut self, sha256: &[u8; 32]) -> Result<Option<String>, RegistryError> {
        let sql = "SELECT vehicle_id FROM enrollment_tokens WHERE token_sha256 = ? AND used_at IS NOT NULL";
        let row = sqlx::query(sql).bind(sha256.as_slice()).fetch_optional(&mut *self.transaction).await?;
        Ok(row.map(|row| row.get("vehicle_id")))
    }

    /// Uses a token up. False when another request was faster.
    pub async fn use_token(&mut self, sha256: &[u8; 32], now: UnixTime) -> Result<bool, RegistryError> {
        let sql = "UPDATE enrollment_tokens SET used_at = ? WHERE token_sha256 = ? AND used_at IS NULL";
        let query = sqlx::query(sql).bind(now.seconds()).bind(sha256.as_slice());
        Ok(query.execute(&mut *self.transaction).await?.rows_affected() == 1)
    }

    /// Adds a vehicle.
    pub async fn add_vehicle(&mut self, row: &VehicleRow) -> Result<(), RegistryError> {
        let sql = "INSERT INTO vehicles (tenant, tier, hardware_id, model_line, region, ecu_serial, public_key,
                   sdk_version, enrolled_at, last_seen, vehicle_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        enrolled(sql, row).bind(&row.vehicle_id).execute(&mut *self.transaction).await?;
        self.save_encryption_key(&row.vehicle_id, row.encryption_key.as_ref()).await
    }

    /// Binds another key, and whatever else changed, to a vehicle that begins anew: it counts its reports from 1, and has given nothing up.
    /// What it sent before stays as evidence; what it confirmed stays its floor, unless it is of another tier now.
    pub async fn replace_vehicle(&mut self, row: &VehicleRow) -> Result<(), RegistryError> {
        // Below all counters that a vehicle can send, and in the order of their age.
        let aside = "UPDATE reports SET counter = report_id - 4611686018427387904 WHERE vehicle_id = ? AND counter >= 0";
        sqlx::query(aside).bind(&row.vehicle_id).execute(&mut *self.transaction).await?;
        sqlx::query("DELETE FROM given_up WHERE vehicle_id = ?").bind(&row.vehicle_id).execute(&mut *self.transaction).await?;
        let sql = "UPDATE vehicles SET tenant = ?, tier = ?, hardware_id = ?, model_line = ?, region = ?, ecu_serial = ?, public_key = ?,
                   sdk_version = ?, enrolled_at = ?, last_seen = ?, report_counter = 0, installed = NULL, confirmed_counter = ?
                   WHERE vehicle_id = ?";
        enrolled(sql, row).bind(to_sql(row.confirmed_counter)).bind(&row.vehicle_id).execute(&mut *self.transaction).await?;
        self.save_encryption_key(&row.vehicle_id, row.encryption_key.as_ref()).await?;
        match &row.held {
            Some(held) => self.save_held(&row.vehicle_id, held).await,
            None => Ok(()),
        }
    }

    /// Notes what a vehicle gave up for good.
    pub async fn add_given_up(&mut self, vehicle_id: &str, new: &GaveUp, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO given_up (vehicle_id, index_sha256, model, version, reason, at) VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET reason = excluded.reason";
        sqlx::query(sql)
            .bind(vehicle_id)
            .bind(&new.sha256)
            .bind(&new.release.model)
            .bind(&new.release.version)
            .bind(&*new.reason)
            .bind(now.seconds())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Notes when vehicles were last heard of.
    pub async fn save_last_seen(&mut self, vehicle_id: &str, last_seen: UnixTime) -> Result<(), RegistryError> {
        let sql = "UPDATE vehicles SET last_seen = ? WHERE vehicle_id = ?";
        sqlx::query(sql).bind(last_seen.seconds()).bind(vehicle_id).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Notes what the Director signed for a vehicle.
    pub async fn save_held(&mut self, vehicle_id: &str, held: &Held) -> Result<(), RegistryError> {
        let held = serde_json::to_string(held).map_err(|error| RegistryError::corrupt("vehicles", error))?;
        let sql = "UPDATE vehicles SET held = ? WHERE vehicle_id = ?";
        sqlx::query(sql).bind(held).bind(vehicle_id).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// Notes what a vehicle reported about itself.
    pub async fn save_reported(
        &mut self,
        vehicle_id: &str,
        report_counter: u64,
        installed: Option<&Installed>,
        confirmed_counter: u64,
    ) -> Result<(), RegistryError> {
        let installed = installed.map(serde_json::to_string).transpose();
        let sql = "UPDATE vehicles SET report_counter = ?, installed = ?, confirmed_counter = ? WHERE vehicle_id = ?";
        sqlx::query(sql)
            .bind(to_sql(report_counter))
            .bind(installed.map_err(|error| RegistryError::corrupt("vehicles", error))?)
            .bind(to_sql(confirmed_counter))
            .bind(vehicle_id)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Keeps a signed vehicle version manifest as evidence, and of the vehicle's older ones as many as make `count_max` with it: a
    /// vehicle that reports without end fills no disk.
    pub async fn add_report(
        &mut self,
        vehicle_id: &str,
        counter: u64,
        body: &[u8],
        count_max: u32,
        now: UnixTime,
    ) -> Result<(), RegistryError> {
        let sql = "INSERT INTO reports (vehicle_id, counter, received_at, body) VALUES (?, ?, ?, ?)";
        sqlx::query(sql).bind(vehicle_id).bind(to_sql(counter)).bind(now.seconds()).bind(body).execute(&mut *self.transaction).await?;
        let forget = "DELETE FROM reports WHERE vehicle_id = ?1 AND counter <=
                      (SELECT counter FROM reports WHERE vehicle_id = ?1 ORDER BY counter DESC LIMIT 1 OFFSET ?2)";
        sqlx::query(forget).bind(vehicle_id).bind(count_max).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// When the newest report came.
    pub async fn newest_report(&mut self) -> Result<Option<UnixTime>, RegistryError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(received_at) FROM reports").fetch_one(&mut *self.transaction).await?;
        Ok(newest.map(UnixTime::from_seconds))
    }

    /// Forgets at most `count_max` reports and as many of the events that vehicles brought about, from before `before`. Returns how
    /// many of the kind that had more.
    pub async fn forget_before(&mut self, before: UnixTime, count_max: u32) -> Result<u64, RegistryError> {
        let reports = "DELETE FROM reports WHERE report_id IN (SELECT report_id FROM reports WHERE received_at < ? LIMIT ?)";
        let events = "DELETE FROM events WHERE event_id IN
                      (SELECT event_id FROM events WHERE kind IN ('vehicle_failed', 'secondary_trouble', 'attack_reported', 'report_refused')
                       AND at < ? LIMIT ?)";
        let mut most = 0;
        for sql in [reports, events] {
            let query = sqlx::query(sql).bind(before.seconds()).bind(count_max);
            most = most.max(query.execute(&mut *self.transaction).await?.rows_affected());
        }
        Ok(most)
    }
}

/// A statement that begins with what an enrollment states, in the order of the table's columns.
fn enrolled<'q>(sql: &'static str, row: &'q VehicleRow) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql)
        .bind(&row.tenant)
        .bind(&row.tier)
        .bind(&row.hardware_id)
        .bind(&row.model_line)
        .bind(&row.region)
        .bind(&row.ecu_serial)
        .bind(&row.public_key)
        .bind(&row.sdk_version)
        .bind(row.enrolled_at.seconds())
        .bind(row.last_seen.seconds())
}

fn gave_up(row: &SqliteRow) -> GaveUp {
    GaveUp {
        release: ReleaseName { model: row.get("model"), version: row.get("version") },
        sha256: row.get("index_sha256"),
        reason: row.get::<&str, _>("reason").into(),
    }
}

fn vehicle(row: &SqliteRow) -> Result<VehicleRow, RegistryError> {
    let installed: Option<String> = row.get("installed");
    let held: Option<String> = row.get("held");
    let corrupt = |error| RegistryError::corrupt("vehicles", error);
    Ok(VehicleRow {
        vehicle_id: row.get("vehicle_id"),
        tenant: row.get("tenant"),
        tier: row.get("tier"),
        hardware_id: row.get("hardware_id"),
        model_line: row.get("model_line"),
        region: row.get("region"),
        ecu_serial: row.get("ecu_serial"),
        public_key: row.get("public_key"),
        sdk_version: row.get("sdk_version"),
        enrolled_at: UnixTime::from_seconds(row.get("enrolled_at")),
        last_seen: UnixTime::from_seconds(row.get("last_seen")),
        report_counter: from_sql(row.get("report_counter")),
        installed: installed.map(|text| serde_json::from_str(&text)).transpose().map_err(corrupt)?,
        confirmed_counter: from_sql(row.get("confirmed_counter")),
        secondaries: Vec::new(),
        gave_up: Vec::new(),
        encryption_key: None,
        held: held.map(|text| serde_json::from_str(&text)).transpose().map_err(corrupt)?,
    })
}
