//! The legal moves of a rollout.

use serde::{Deserialize, Serialize};
use switchback_signing::time::UnixTime;

use super::Rollout;

/// Whether a rollout moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RolloutState {
    /// Written down, not started.
    Draft,
    /// Offers its release.
    Running,
    /// Offers nothing until somebody resumes it.
    Paused {
        /// Who stopped it.
        by: PausedBy,
        /// Why, for people.
        reason: String,
        /// Since when.
        since: i64,
    },
}

/// Who stopped a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// A person.
    Operator,
    /// The failure gate.
    Gate,
}

/// What can be done to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Begin to offer.
    Start,
    /// Stop offering.
    Pause {
        /// Who stops it.
        by: PausedBy,
        /// Why.
        reason: String,
    },
    /// Offer again. The note says why that is safe; the failures counted so far no longer stop the rollout.
    Resume {
        /// Why it may go on.
        note: String,
    },
    /// Open the next wave that is not open yet.
    Advance,
}

/// An act that the state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalMove {
    /// Start of a rollout that was started before.
    #[error("the rollout was started already")]
    AlreadyStarted,
    /// Pause of a draft.
    #[error("the rollout was not started, there is nothing to pause")]
    NotStarted,
    /// Resume of a rollout that is not paused.
    #[error("the rollout is not paused")]
    NotPaused,
    /// Resume without a reason.
    #[error("a rollout resumes only with a note that says why it may go on")]
    NoteMissing,
    /// Advance of a rollout that does not run.
    #[error("the rollout is not running")]
    NotRunning,
    /// Advance when every wave is open.
    #[error("every wave is open already")]
    NoWaveLeft,
}

impl RolloutState {
    /// Its name in the API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Paused { .. } => "paused",
        }
    }
}

impl Rollout {
    /// The rollout after `act`, or `None` when the act changes nothing.
    ///
    /// Pausing what is paused is no error: a gate and an operator may act in the same second, and the pause must stand.
    pub fn after(&self, act: Act, now: UnixTime) -> Result<Option<Self>, IllegalMove> {
        match (&self.state, act) {
            (RolloutState::Draft, Act::Start) => {
                let started_at = Some(now);
                Ok(Some(Self { state: RolloutState::Running, started_at, ..self.clone() }))
            }
            (RolloutState::Running | RolloutState::Paused { .. }, Act::Start) => Err(IllegalMove::AlreadyStarted),
            (RolloutState::Draft, Act::Pause { .. }) => Err(IllegalMove::NotStarted),
            (RolloutState::Paused { .. }, Act::Pause { .. }) => Ok(None),
            (RolloutState::Running, Act::Pause { by, reason }) => {
                let state = RolloutState::Paused { by, reason, since: now.seconds() };
                Ok(Some(Self { state, ..self.clone() }))
            }
            (RolloutState::Draft | RolloutState::Running, Act::Resume { .. }) => Err(IllegalMove::NotPaused),
            (RolloutState::Paused { since, .. }, Act::Resume { note }) => {
                if note.trim().is_empty() {
                    return Err(IllegalMove::NoteMissing);
                }
                Ok(Some(self.resumed(UnixTime::from_seconds(*since), now)))
            }
            (RolloutState::Draft | RolloutState::Paused { .. }, Act::Advance) => Err(IllegalMove::NotRunning),
            (RolloutState::Running, Act::Advance) => self.advanced(now).map(Some),
        }
    }

    /// Waves that were filling go on from where they stood; without this, a long pause would end in a jump to the full share.
    fn resumed(&self, since: UnixTime, now: UnixTime) -> Self {
        let pause_s = now.seconds().saturating_sub(since.seconds()).max(0);
        let mut next = Self { state: RolloutState::Running, ..self.clone() };
        let Some(started_at) = self.started_at else { return next };
        for wave in &mut next.waves {
            let opens_at = wave.opens_at(started_at);
            let Some(ends_at) = wave.ends_at else { continue };
            if opens_at < since && since < ends_at {
                wave.starts_at = Some(opens_at.plus_seconds(pause_s));
                wave.ends_at = Some(ends_at.plus_seconds(pause_s));
            }
        }
        next
    }

    fn advanced(&self, now: UnixTime) -> Result<Self, IllegalMove> {
        let started_at = self.started_at.ok_or(IllegalMove::NotRunning)?;
        let mut next = self.clone();
        let mut waves = next.waves.iter_mut();
        let wave = waves.find(|wave| now < wave.opens_at(started_at)).ok_or(IllegalMove::NoWaveLeft)?;
        let early_s = wave.opens_at(started_at).seconds().saturating_sub(now.seconds());
        wave.starts_at = Some(now);
        wave.ends_at = wave.ends_at.map(|end| end.plus_seconds(early_s.saturating_neg()));
        Ok(next)
    }
}
