use sqlx::{Row, sqlite::SqliteRow};
use switchback_signing::{
    metadata::{MetadataError, vehicle::UpdateState},
    time::UnixTime,
};

use super::{Change, Registry, RegistryError, to_sql};
use crate::rollout::RolloutId;

/// How far one vehicle came with one rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The vehicle.
    pub vehicle_id: String,
    /// Last stage that it reported, or `offered`.
    pub stage: UpdateState,
    /// As what the gate counted it last, in whichever epoch.
    pub counted: Option<Counted>,
    /// Stable number of the reason it gave.
    pub reason_number: Option<u32>,
    /// Name of the reason.
    pub reason_name: Option<String>,
    /// Text of the reason.
    pub reason_text: Option<String>,
}

/// As what the gate counts an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The vehicle runs the release and has confirmed it.
    Confirmed,
    /// The vehicle refused the release or rolled it back, for a reason that blames the release.
    Failed,
}

impl Counted {
    const fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Confirmed, Self::Failed].into_iter().find(|counted| counted.name() == name)
    }
}

/// Something that a person or a gate decided, or a vehicle brought about.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Kind, such as `rollout_paused`.
    pub kind: &'static str,
    /// The rollout that it is about.
    pub rollout: Option<RolloutId>,
    /// The vehicle that it is about.
    pub vehicle_id: Option<String>,
    /// What happened, for people.
    pub text: String,
}

/// An event as it was written down.
#[derive(Clone, Debug)]
pub struct Event {
    /// Number; rises with time.
    pub id: i64,
    /// When.
    pub at: UnixTime,
    /// Kind.
    pub kind: String,
    /// What happened.
    pub text: String,
}

impl Registry {
    /// How far every vehicle came with a rollout.
    pub async fn outcomes(&self, id: RolloutId) -> Result<Vec<Outcome>, RegistryError> {
        let sql = "SELECT * FROM outcomes WHERE rollout_id = ? ORDER BY vehicle_id";
        let rows = sqlx::query(sql).bind(id.0).fetch_all(&self.readers).await?;
        rows.iter().map(outcome).collect()
    }

    /// The newest events of a rollout, oldest first.
    pub async fn events(&self, id: RolloutId, limit: u32) -> Result<Vec<Event>, RegistryError> {
        let sql = "SELECT event_id, at, kind, text FROM events WHERE rollout_id = ? ORDER BY event_id DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(id.0).bind(limit).fetch_all(&self.readers).await?;
        Ok(rows.iter().rev().map(event).collect())
    }

    /// The newest attacks that a vehicle has reported, and reports in its name that were refused, oldest first.
    pub async fn attacks(&self, vehicle_id: &str, limit: u32) -> Result<Vec<Event>, RegistryError> {
        let sql = "SELECT event_id, at, kind, text FROM events WHERE vehicle_id = ? AND kind IN ('attack_reported', 'report_refused')
                   ORDER BY event_id DESC LIMIT ?";
        let rows = sqlx::query(sql).bind(vehicle_id).bind(limit).fetch_all(&self.readers).await?;
        Ok(rows.iter().rev().map(event).collect())
    }
}

impl Change {
    /// The newest events that a vehicle has brought about after `after`, at most `limit`.
    pub async fn newest_of_vehicle(&mut self, vehicle_id: &str, after: UnixTime, limit: usize) -> Result<Vec<String>, RegistryError> {
        let sql = "SELECT text FROM events WHERE vehicle_id = ? AND kind IN ('vehicle_failed', 'secondary_trouble', 'attack_reported')
                   AND at > ? ORDER BY event_id DESC LIMIT ?";
        let query = sqlx::query_scalar(sql).bind(vehicle_id).bind(after.seconds()).bind(to_sql(limit as u64));
        Ok(query.fetch_all(&mut *self.transaction).await?)
    }

    /// Writes an event down.
    pub async fn add_event(&mut self, new: &NewEvent, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO events (at, kind, rollout_id, vehicle_id, text) VALUES (?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(now.seconds())
            .bind(new.kind)
            .bind(new.rollout.map(|id| id.0))
            .bind(&new.vehicle_id)
            .bind(&new.text)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Notes that a rollout's release was offered to a vehicle; a vehicle that came further stays where it is.
    pub async fn note_offered(&mut self, id: RolloutId, vehicle_id: &str, now: UnixTime) -> Result<(), RegistryError> {
        let sql = "INSERT INTO outcomes (rollout_id, vehicle_id, stage, updated_at) VALUES (?, ?, 'offered', ?)
                   ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(id.0).bind(vehicle_id).bind(now.seconds());
        query.execute(&mut *self.transaction).await?;
        Ok(())
    }

    /// What a vehicle said last of a rollout, with the steps of this change. An offer counts as said.
    pub async fn reported(&mut self, id: RolloutId, vehicle_id: &str) -> Result<Option<UpdateState>, RegistryError> {
        let sql = "SELECT stage FROM outcomes WHERE rollout_id = ? AND vehicle_id = ?";
        let stage: Option<String> = sqlx::query_scalar(sql).bind(id.0).bind(vehicle_id).fetch_optional(&mut *self.transaction).await?;
        stage.map(|stage| stage_of(&stage)).transpose()
    }

    /// Notes how far a vehicle came. A terminal stage is counted for the gate; within one epoch each vehicle counts once, with its
    /// latest outcome.
    pub async fn note_outcome(&mut self, id: RolloutId, outcome: &Outcome, now: UnixTime) -> Result<(), RegistryError> {
        if let Some(counted) = outcome.counted {
            self.recount(id, &outcome.vehicle_id, counted).await?;
        }
        let sql = "INSERT INTO outcomes (rollout_id, vehicle_id, stage, reason_number, reason_name, reason_text, updated_at,
                                         counted_epoch, counted_as)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT gate_epoch FROM rollouts WHERE rollout_id = ?1 AND ?8 IS NOT NULL), ?8)
                   ON CONFLICT DO UPDATE SET stage = ?3, reason_number = ?4, reason_name = ?5, reason_text = ?6, updated_at = ?7,
                       counted_epoch = coalesce(excluded.counted_epoch, counted_epoch),
                       counted_as = coalesce(excluded.counted_as, counted_as)";
        sqlx::query(sql)
            .bind(id.0)
            .bind(&outcome.vehicle_id)
            .bind(outcome.stage.name())
            .bind(outcome.reason_number)
            .bind(&outcome.reason_name)
            .bind(&outcome.reason_text)
            .bind(now.seconds())
            .bind(outcome.counted.map(Counted::name))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn recount(&mut self, id: RolloutId, vehicle_id: &str, counted: Counted) -> Result<(), RegistryError> {
        let sql = "SELECT counted_as FROM outcomes JOIN rollouts USING (rollout_id)
                   WHERE rollout_id = ? AND vehicle_id = ? AND counted_epoch = gate_epoch";
        let row = sqlx::query(sql).bind(id.0).bind(vehicle_id).fetch_optional(&mut *self.transaction).await?;
        let before = row.and_then(|row| Counted::from_name(row.get("counted_as")));
        let difference = |kind: Counted| i64::from(counted == kind) - i64::from(before == Some(kind));
        let sql = "UPDATE rollouts SET confirmed = confirmed + ?, failed = failed + ? WHERE rollout_id = ?";
        sqlx::query(sql)
            .bind(difference(Counted::Confirmed))
            .bind(difference(Counted::Failed))
            .bind(id.0)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }
}

fn event(row: &SqliteRow) -> Event {
    Event { id: row.get("event_id"), at: UnixTime::from_seconds(row.get("at")), kind: row.get("kind"), text: row.get("text") }
}

fn outcome(row: &SqliteRow) -> Result<Outcome, RegistryError> {
    let counted: Option<String> = row.get("counted_as");
    Ok(Outcome {
        vehicle_id: row.get("vehicle_id"),
        stage: stage_of(row.get("stage"))?,
        counted: counted.and_then(|name| Counted::from_name(&name)),
        reason_number: row.get("reason_number"),
        reason_name: row.get("reason_name"),
        reason_text: row.get("reason_text"),
    })
}

fn stage_of(name: &str) -> Result<UpdateState, RegistryError> {
    name.parse().map_err(|error: MetadataError| RegistryError::corrupt("outcomes", error))
}
