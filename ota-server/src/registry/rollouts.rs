use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};
use switchback_signing::time::UnixTime;

use super::{Change, Registry, RegistryError, from_sql};
use crate::{
    gate::{FailureLimit, Tally},
    rollout::{Approval, ApprovalId, ReleaseName, Rollout, RolloutId, RolloutState, Selector, Share, Wave},
};

/// A rollout that has no number yet.
#[derive(Clone, Debug)]
pub struct NewRollout {
    /// What people call it.
    pub name: String,
    /// The release that it brings.
    pub release: ReleaseName,
    /// The vehicles that it is for.
    pub selector: Selector,
    /// Its steps.
    pub waves: Vec<Wave>,
    /// Decides the order of the vehicles.
    pub salt: String,
    /// When it stops by itself.
    pub failure_limit: FailureLimit,
}

/// How a wave is written in the database.
#[derive(Serialize, Deserialize)]
struct StoredWave {
    name: String,
    starts_at: Option<i64>,
    ends_at: Option<i64>,
    share: Share,
    model_lines: Vec<String>,
}

impl From<&Wave> for StoredWave {
    fn from(wave: &Wave) -> Self {
        Self {
            name: wave.name.clone(),
            starts_at: wave.starts_at.map(UnixTime::seconds),
            ends_at: wave.ends_at.map(UnixTime::seconds),
            share: wave.share,
            model_lines: wave.model_lines.clone(),
        }
    }
}

impl From<StoredWave> for Wave {
    fn from(wave: StoredWave) -> Self {
        Self {
            name: wave.name,
            starts_at: wave.starts_at.map(UnixTime::from_seconds),
            ends_at: wave.ends_at.map(UnixTime::from_seconds),
            share: wave.share,
            model_lines: wave.model_lines,
        }
    }
}

impl Registry {
    /// All rollouts, oldest first.
    pub async fn rollouts(&self) -> Result<Vec<Rollout>, RegistryError> {
        let rows = sqlx::query("SELECT * FROM rollouts ORDER BY rollout_id").fetch_all(&self.readers).await?;
        rows.iter().map(rollout).collect()
    }

    /// What the gate of each rollout counts at present.
    pub async fn tallies(&self) -> Result<BTreeMap<RolloutId, Tally>, RegistryError> {
        let rows = sqlx::query("SELECT rollout_id, confirmed, failed FROM rollouts").fetch_all(&self.readers).await?;
        Ok(rows.iter().map(|row| (RolloutId(row.get("rollout_id")), tally(row))).collect())
    }

    /// All approvals that were not revoked.
    pub async fn approvals(&self) -> Result<Vec<Approval>, RegistryError> {
        let sql = "SELECT * FROM approvals WHERE revoked_at IS NULL ORDER BY approval_id";
        sqlx::query(sql).fetch_all(&self.readers).await?.iter().map(approval).collect()
    }

    /// All approvals that there ever were of one release, the revoked ones too.
    pub async fn approvals_ever(&self, release: &ReleaseName) -> Result<Vec<Approval>, RegistryError> {
        let sql = "SELECT * FROM approvals WHERE model = ? AND version = ?";
        let query = sqlx::query(sql).bind(&release.model).bind(&release.version);
        query.fetch_all(&self.readers).await?.iter().map(approval).collect()
    }
}

impl Change {
    /// Writes a rollout down and gives it its number.
    pub async fn add_rollout(&mut self, new: NewRollout, now: UnixTime) -> Result<Rollout, RegistryError> {
        let sql = "INSERT INTO rollouts (name, model, version, selector, waves, failure_limit, salt, state, created_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING rollout_id";
        let NewRollout { name, release, selector, waves, salt, failure_limit } = new;
        let row = sqlx::query(sql)
            .bind(&name)
            .bind(&release.model)
            .bind(&release.version)
            .bind(to_json(&selector)?)
            .bind(waves_to_json(&waves)?)
            .bind(to_json(&failure_limit)?)
            .bind(&salt)
            .bind(to_json(&RolloutState::Draft)?)
            .bind(now.seconds())
            .fetch_one(&mut *self.transaction)
            .await?;
        let id = RolloutId(row.get("rollout_id"));
        let state = RolloutState::Draft;
        Ok(Rollout { id, name, release, selector, waves, salt, state, started_at: None, failure_limit })
    }

    /// Writes what an act can change: state, start and the dates of waves.
    pub async fn save_rollout(&mut self, rollout: &Rollout) -> Result<(), RegistryError> {
        let sql = "UPDATE rollouts SET state = ?, started_at = ?, waves = ? WHERE rollout_id = ?";
        sqlx::query(sql)
            .bind(to_json(&rollout.state)?)
            .bind(rollout.started_at.map(UnixTime::seconds))
            .bind(waves_to_json(&rollout.waves)?)
            .bind(rollout.id.0)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Lets the gate of a rollout count from zero; outcomes counted before no longer matter to it.
    pub async fn open_gate_epoch(&mut self, id: RolloutId) -> Result<(), RegistryError> {
        let sql = "UPDATE rollouts SET gate_epoch = gate_epoch + 1, confirmed = 0, failed = 0 WHERE rollout_id = ?";
        sqlx::query(sql).bind(id.0).execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// What the gate of a rollout counts, with the steps of this change.
    pub async fn tally(&mut self, id: RolloutId) -> Result<Tally, RegistryError> {
        let sql = "SELECT confirmed, failed FROM rollouts WHERE rollout_id = ?";
        Ok(tally(&sqlx::query(sql).bind(id.0).fetch_one(&mut *self.transaction).await?))
    }

    /// Writes an approval down; its `id` is ignored, the one it gets is returned.
    pub async fn add_approval(&mut self, new: &Approval, now: UnixTime) -> Result<ApprovalId, RegistryError> {
        let sql = "INSERT INTO approvals (model, version, contents, region, model_lines, authority, number, valid_from, valid_until,
                                          created_at)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING approval_id";
        let row = sqlx::query(sql)
            .bind(&new.release.model)
            .bind(&new.release.version)
            .bind(to_json(&new.contents)?)
            .bind(&new.region)
            .bind(to_json(&new.model_lines)?)
            .bind(&new.authority)
            .bind(&new.number)
            .bind(new.valid_from.seconds())
            .bind(new.valid_until.map(UnixTime::seconds))
            .bind(now.seconds())
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(ApprovalId(row.get("approval_id")))
    }

    /// Revokes an approval; the row stays as evidence. False when there was none.
    pub async fn revoke_approval(&mut self, id: ApprovalId, now: UnixTime) -> Result<bool, RegistryError> {
        let sql = "UPDATE approvals SET revoked_at = ? WHERE approval_id = ? AND revoked_at IS NULL";
        let done = sqlx::query(sql).bind(now.seconds()).bind(id.0).execute(&mut *self.transaction).await?;
        Ok(done.rows_affected() == 1)
    }
}

fn rollout(row: &SqliteRow) -> Result<Rollout, RegistryError> {
    let started_at: Option<i64> = row.get("started_at");
    let waves: Vec<StoredWave> = from_json(row, "rollouts", "waves")?;
    Ok(Rollout {
        id: RolloutId(row.get("rollout_id")),
        name: row.get("name"),
        release: ReleaseName { model: row.get("model"), version: row.get("version") },
        selector: from_json(row, "rollouts", "selector")?,
        waves: waves.into_iter().map(Wave::from).collect(),
        salt: row.get("salt"),
        state: from_json(row, "rollouts", "state")?,
        started_at: started_at.map(UnixTime::from_seconds),
        failure_limit: from_json(row, "rollouts", "failure_limit")?,
    })
}

fn approval(row: &SqliteRow) -> Result<Approval, RegistryError> {
    let valid_until: Option<i64> = row.get("valid_until");
    Ok(Approval {
        id: ApprovalId(row.get("approval_id")),
        release: ReleaseName { model: row.get("model"), version: row.get("version") },
        contents: from_json(row, "approvals", "contents")?,
        region: row.get("region"),
        model_lines: from_json(row, "approvals", "model_lines")?,
        authority: row.get("authority"),
        number: row.get("number"),
        valid_from: UnixTime::from_seconds(row.get("valid_from")),
        valid_until: valid_until.map(UnixTime::from_seconds),
    })
}

fn tally(row: &SqliteRow) -> Tally {
    Tally { confirmed: from_sql(row.get("confirmed")), failed: from_sql(row.get("failed")) }
}

fn waves_to_json(waves: &[Wave]) -> Result<String, RegistryError> {
    to_json(&waves.iter().map(StoredWave::from).collect::<Vec<_>>())
}

fn to_json(value: &impl Serialize) -> Result<String, RegistryError> {
    serde_json::to_string(value).map_err(|error| RegistryError::corrupt("rollouts", error))
}

fn from_json<T: DeserializeOwned>(row: &SqliteRow, table: &'static str, column: &str) -> Result<T, RegistryError> {
    let text: String = row.get(column);
    serde_json::from_str(&text).map_err(|error| RegistryError::corrupt(table, format!("{column}: {error}")))
}
