//! Which refused reports are written down: enough for an operator to see them, and never so many that they fill the disk.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use switchback_signing::time::UnixTime;

use super::Server;
use crate::registry::{NewEvent, RegistryError};

/// Written down a day for all vehicles, of reports that their own keys have sent. A part of a large fleet with the same fault stays below.
const BY_VEHICLES_A_DAY: usize = 10_000;
/// And of what anybody can send in the name of a vehicle, who needs no key for it.
const BY_ANYBODY_A_DAY: usize = 1_000;

/// Longest text; parts of it may be the sender's.
const TEXT_CHARS_MAX: usize = 300;

/// Who sent a report that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Whoever has the vehicle's key.
    Vehicle,
    /// Nobody knows.
    Anybody,
}

/// What was written down today.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    today: Mutex<Today>,
}

#[derive(Debug, Default)]
struct Today {
    day: i64,
    noted: HashSet<(Box<str>, &'static str)>,
    by_vehicles: usize,
    by_anybody: usize,
}

/// What becomes of a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Note {
    /// It is written down.
    Down,
    /// It is the first that is not written down: that much is.
    Full,
    /// Nothing: it was written down today, or there were too many.
    Nothing,
}

impl Refusals {
    fn note(&self, vehicle_id: &str, kind: &'static str, sender: Sender, now: UnixTime) -> Note {
        let day = now.seconds().div_euclid(86_400);
        // Valid after every statement.
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            *today = Today { day, ..Today::default() };
        }
        let (count, count_max) = match sender {
            Sender::Vehicle => (today.by_vehicles, BY_VEHICLES_A_DAY),
            Sender::Anybody => (today.by_anybody, BY_ANYBODY_A_DAY),
        };
        if count > count_max || count < count_max && !today.noted.insert((vehicle_id.into(), kind)) {
            return Note::Nothing;
        }
        match sender {
            Sender::Vehicle => today.by_vehicles += 1,
            Sender::Anybody => today.by_anybody += 1,
        }
        if count < count_max { Note::Down } else { Note::Full }
    }
}

impl Server {
    /// Writes down that a report in the name of an enrolled vehicle was refused: the first of its kind for each vehicle and day.
    pub async fn note_refused(&self, vehicle_id: &str, kind: &'static str, detail: &str, sender: Sender) {
        let now = self.now();
        let (vehicle_id, text) = match self.refusals.note(vehicle_id, kind, sender, now) {
            Note::Nothing => return,
            Note::Down => (Some(vehicle_id.to_owned()), format!("{kind}: {detail}").chars().take(TEXT_CHARS_MAX).collect()),
            Note::Full => (None, "more reports are refused today than are written down".to_owned()),
        };
        tracing::warn!(vehicle.id = vehicle_id, reason = %text, "a report was refused");
        let event = NewEvent { kind: "report_refused", rollout: None, vehicle_id, text };
        // The sender was told; for whoever looks later there is another one tomorrow.
        if let Err(error) = self.write_event(&event, now).await {
            tracing::error!(error = &error as &(dyn std::error::Error + 'static), "a refused report was not written down");
        }
    }

    async fn write_event(&self, event: &NewEvent, now: UnixTime) -> Result<(), RegistryError> {
        let mut change = self.registry.change().await?;
        change.add_event(event, now).await?;
        change.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

    #[test]
    fn the_first_of_each_kind_vehicle_and_day_is_written_down_and_so_many_in_all() {
        let refusals = Refusals::default();
        let note = |vehicle: &str, kind, sender, now| refusals.note(vehicle, kind, sender, now);
        assert_eq!(note("v-1", "manifest_replayed", Sender::Vehicle, NOW), Note::Down);
        assert_eq!(note("v-1", "manifest_replayed", Sender::Vehicle, NOW), Note::Nothing);
        assert_eq!(note("v-1", "manifest_signature", Sender::Vehicle, NOW), Note::Down);
        assert_eq!(note("v-2", "manifest_replayed", Sender::Vehicle, NOW), Note::Down);
        for vehicle in 0..BY_ANYBODY_A_DAY {
            assert_eq!(note(&format!("w-{vehicle}"), "signature_invalid", Sender::Anybody, NOW), Note::Down);
        }
        assert_eq!(note("x-1", "signature_invalid", Sender::Anybody, NOW), Note::Full);
        assert_eq!(note("x-2", "signature_invalid", Sender::Anybody, NOW), Note::Nothing);
        // Who has no key does not hide what comes from the vehicles.
        assert_eq!(note("v-3", "manifest_replayed", Sender::Vehicle, NOW), Note::Down);
        let tomorrow = NOW.plus_days(1);
        assert_eq!(note("v-1", "manifest_replayed", Sender::Vehicle, tomorrow), Note::Down);
        assert_eq!(note("x-1", "signature_invalid", Sender::Anybody, tomorrow), Note::Down);
    }
}
