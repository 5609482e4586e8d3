use std::{collections::BTreeMap, sync::Arc};

use switchback_signing::time::UnixTime;

use super::{Server, to_the_end, words::Known};
use crate::{
    fleet::FleetVehicle,
    gate::{Blame, LimitError, Said, Tally, blame, said},
    image::TARGETS,
    keys::KeyError,
    registry::{Change, Counted, Event, NewEvent, NewRollout, Outcome, RegistryError},
    rollout::{
        Act, Approval, ApprovalId, IllegalMove, PausedBy, Release, Rollout, RolloutId, Rules, Withheld, expired, unapproved, verdict,
    },
};

/// Attacks of a vehicle that are shown.
const ATTACKS_MAX: u32 = 100;
/// Events of a rollout that are shown.
const EVENTS_MAX: u32 = 1_000;

/// Why a rollout or an approval could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// No such rollout.
    #[error("there is no rollout {0}")]
    NoRollout(RolloutId),
    /// No such approval, or revoked already.
    #[error("there is no approval {} in force", .0.0)]
    NoApproval(ApprovalId),
    /// Two rollouts of one name would be confused.
    #[error("a rollout named {0:?} exists already")]
    NameTaken(String),
    /// The same decision would stand there twice, and one of the two would outlive the other's revocation.
    #[error("approval {} says the same already: {} in {} by {}, number {}", .0.id.0, .0.release, .0.region, .0.authority, .0.number)]
    AlreadyApproved(Box<Approval>),
    /// The failure limit could not work.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Nothing is signed for the release.
    #[error("the Image repository holds no release {0}")]
    NotPublished(String),
    /// The state does not allow it.
    #[error("rollout {id}: {source}")]
    IllegalMove {
        /// The rollout.
        id: RolloutId,
        /// Why not.
        source: IllegalMove,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// How far one wave has come.
#[derive(Clone, Debug, Default)]
pub struct WaveProgress {
    /// Vehicles that the wave will reach in the end and no earlier wave does.
    pub selected: u64,
    /// Of these, vehicles that it has reached.
    pub reached: u64,
    /// Vehicles by the last stage that they reported, `offered` first.
    pub stages: BTreeMap<String, u64>,
    /// Vehicles that gave a reason, by its name.
    pub reasons: BTreeMap<String, u64>,
    /// Vehicles that run the release, as the gate counts them, since the beginning.
    pub confirmed: u64,
    /// Vehicles that failed for a reason that blames the release, as the gate counts them, since the beginning.
    pub failed: u64,
    /// Vehicles that lack what the release asks for.
    pub not_installable: u64,
    /// Vehicles that refused the release or rolled it back for what it is not to blame for.
    pub not_blamed: u64,
    /// Vehicles that are not offered the release, by why.
    pub withheld: BTreeMap<String, u64>,
}

/// A rollout with all that is known about it.
#[derive(Clone, Debug)]
pub struct RolloutView {
    /// The rollout.
    pub rollout: Rollout,
    /// What its gate counts.
    pub tally: Tally,
    /// One entry per wave.
    pub waves: Vec<WaveProgress>,
    /// What happened, oldest first.
    pub events: Vec<Event>,
    /// What an operator should do something about.
    pub warnings: Vec<String>,
}

/// What every rollout has to say about one vehicle.
#[derive(Clone, Debug)]
pub struct VehicleView {
    /// The vehicle.
    pub vehicle: Arc<FleetVehicle>,
    /// Per rollout: why it withholds its release, or nothing when it offers it.
    pub verdicts: Vec<(Rollout, Option<Withheld>)>,
    /// The newest attacks that it has reported, and reports in its name that were refused, oldest first.
    pub attacks: Vec<Event>,
}

impl Server {
    /// Writes a rollout down, as a draft.
    pub async fn create_rollout(self: &Arc<Self>, new: NewRollout) -> Result<Rollout, RolloutError> {
        let server = Arc::clone(self);
        to_the_end(async move { server.add_rollout(new).await }).await
    }

    /// Starts, pauses, resumes or advances a rollout. What was acknowledged holds for every poll from then on.
    pub async fn act(self: &Arc<Self>, id: RolloutId, act: Act) -> Result<Rollout, RolloutError> {
        let server = Arc::clone(self);
        to_the_end(async move { server.move_rollout(id, act).await }).await
    }

    /// What somebody who writes `rollout` down should know: its words that no vehicle has, and nothing that is published or approved.
    #[must_use]
    pub fn selector_warnings(&self, rollout: &Rollout) -> Vec<String> {
        let (rules, fleet) = (self.rules.load(), self.fleet.all());
        let vehicles: Vec<_> = fleet.iter().map(|vehicle| vehicle.state.load_full()).collect();
        Known::of(vehicles.iter().map(|state| &state.vehicle), &rules).missed_by(rollout)
    }

    /// What somebody who looks at `rollout` should know: what of it vehicles would refuse by now.
    #[must_use]
    pub fn expired_warnings(&self, rollout: &Rollout) -> Vec<String> {
        let (rules, now) = (self.rules.load(), self.now());
        let warning = |release: &Arc<Release>| {
            let Release { name, tier, expiring_role, expires, .. } = &**release;
            let renew = if **expiring_role == *TARGETS {
                "its holders must sign it anew".to_owned()
            } else {
                format!("sign it anew with `switchback sign --renew {tier}` and publish it")
            };
            format!("{name} is offered to nobody of tier {tier}: the metadata of role {expiring_role} expired at {expires}; {renew}")
        };
        expired(rollout, &rules, now).map(warning).collect()
    }

    /// What somebody who starts `rollout` should know.
    #[must_use]
    pub fn start_warnings(&self, rollout: &Rollout) -> Vec<String> {
        let (rules, now, fleet) = (self.rules.load(), self.now(), self.fleet.all());
        let vehicles: Vec<_> = fleet.iter().map(|vehicle| vehicle.state.load_full()).collect();
        let regions = unapproved(rollout, vehicles.iter().map(|state| &state.vehicle), &rules, now);
        let release = &rollout.release;
        let warning = |(region, vehicles): (&String, &u64)| {
            format!("no approval of {release} is valid in {region} now: it is offered to nobody there ({vehicles} vehicles wait)")
        };
        regions.iter().map(warning).chain(self.expired_warnings(rollout)).collect()
    }

    /// Writes an approval down; its `id` and `contents` are ignored: it binds what is published now.
    pub async fn approve(self: &Arc<Self>, new: Approval) -> Result<Approval, RolloutError> {
        let server = Arc::clone(self);
        to_the_end(async move { server.add_approval(new).await }).await
    }

    /// Revokes an approval: from now on it lets nothing through.
    pub async fn revoke_approval(self: &Arc<Self>, id: ApprovalId) -> Result<(), RolloutError> {
        let server = Arc::clone(self);
        to_the_end(async move { server.withdraw_approval(id).await }).await
    }

    async fn add_rollout(&self, new: NewRollout) -> Result<Rollout, RolloutError> {
        new.failure_limit.check()?;
        let published = self.rules.load().releases.iter().any(|release| release.name == new.release);
        if !published {
            return Err(RolloutError::NotPublished(new.release.to_string()));
        }
        let name = new.name.clone();
        let _control = self.control.lock().await;
        let (mut change, now) = (self.registry.change().await?, self.now());
        let rollout = match change.add_rollout(new, now).await {
            Err(error) if error.is_duplicate() => return Err(RolloutError::NameTaken(name)),
            result => result?,
        };
        let waves = rollout.waves.len();
        let text = format!("created: {} in {waves} {}", rollout.release, if waves == 1 { "wave" } else { "waves" });
        change.add_event(&about(&rollout, "rollout_created", text), now).await?;
        change.commit().await?;
        self.change_rules(|rules| rules.rollouts.push(rollout.clone()));
        Ok(rollout)
    }

    async fn move_rollout(&self, id: RolloutId, act: Act) -> Result<Rollout, RolloutError> {
        let _control = self.control.lock().await;
        let rollout = self.rollout(id)?;
        let (now, resumes) = (self.now(), matches!(act, Act::Resume { .. }));
        let (kind, text) = describe(&act);
        let Some(next) = rollout.after(act, now).map_err(|source| RolloutError::IllegalMove { id, source })? else {
            return Ok(rollout);
        };
        let mut change = self.registry.change().await?;
        change.save_rollout(&next).await?;
        if resumes {
            change.open_gate_epoch(id).await?;
        }
        change.add_event(&about(&next, kind, text), now).await?;
        change.commit().await?;
        self.change_rules(|rules| {
            for rollout in rules.rollouts.iter_mut().filter(|rollout| rollout.id == id) {
                *rollout = next.clone();
            }
        });
        tracing::info!(rollout.id = id.0, state = next.state.name(), "{kind}");
        Ok(next)
    }

    async fn add_approval(&self, mut new: Approval) -> Result<Approval, RolloutError> {
        let _control = self.control.lock().await;
        // An approval of what nobody has seen yet would be an approval of whatever comes.
        new.contents = self.image.load().contents(&new.release).collect();
        if new.contents.is_empty() {
            return Err(RolloutError::NotPublished(new.release.to_string()));
        }
        if let Some(same) = self.rules.load().approvals.iter().find(|approval| approval.covers(&new)) {
            return Err(RolloutError::AlreadyApproved(Box::new(same.clone())));
        }
        let (mut change, now) = (self.registry.change().await?, self.now());
        let approval = Approval { id: change.add_approval(&new, now).await?, ..new };
        let Approval { release, region, authority, number, .. } = &approval;
        let contents: Vec<String> = approval.contents.iter().map(|content| format!("{} sha256 {}", content.path, content.sha256)).collect();
        let text = format!("{release} approved in {region} by {authority}, number {number}: {}", contents.join(", "));
        self.note_for_release(&mut change, &approval, "approval_added", &text, now).await?;
        change.commit().await?;
        self.change_rules(|rules| rules.approvals.push(approval.clone()));
        Ok(approval)
    }

    async fn withdraw_approval(&self, id: ApprovalId) -> Result<(), RolloutError> {
        let _control = self.control.lock().await;
        let approval = self.rules.load().approvals.iter().find(|approval| approval.id == id).cloned();
        let approval = approval.ok_or(RolloutError::NoApproval(id))?;
        let (mut change, now) = (self.registry.change().await?, self.now());
        if !change.revoke_approval(id, now).await? {
            return Err(RolloutError::NoApproval(id));
        }
        let text = format!("approval of {} in {} revoked", approval.release, approval.region);
        self.note_for_release(&mut change, &approval, "approval_revoked", &text, now).await?;
        change.commit().await?;
        self.change_rules(|rules| rules.approvals.retain(|approval| approval.id != id));
        Ok(())
    }

    /// The rollout with this number.
    pub fn rollout(&self, id: RolloutId) -> Result<Rollout, RolloutError> {
        let rules = self.rules.load();
        let rollout = rules.rollouts.iter().find(|rollout| rollout.id == id);
        rollout.cloned().ok_or(RolloutError::NoRollout(id))
    }

    /// A rollout with all that is known about it.
    pub async fn rollout_view(&self, id: RolloutId) -> Result<RolloutView, RolloutError> {
        let rollout = self.rollout(id)?;
        let outcomes = self.registry.outcomes(id).await?;
        let tally = self.registry.tallies().await?.remove(&id).unwrap_or_default();
        let events = self.registry.events(id, EVENTS_MAX).await?;
        let waves = progress(&rollout, &self.fleet.all(), &outcomes, &self.rules.load(), self.now());
        let warnings = self.expired_warnings(&rollout);
        Ok(RolloutView { rollout, tally, waves, events, warnings })
    }

    /// What every rollout has to say about one vehicle, and what the vehicle has met.
    pub async fn vehicle_view(&self, vehicle_id: &str) -> Result<Option<VehicleView>, RegistryError> {
        let Some(vehicle) = self.fleet.find(vehicle_id) else { return Ok(None) };
        let attacks = self.registry.attacks(vehicle_id, ATTACKS_MAX).await?;
        let (rules, now) = (self.rules.load(), self.now());
        let facts = vehicle.state.load().vehicle.clone();
        let verdicts = rules.rollouts.iter().map(|rollout| (rollout.clone(), verdict(&facts, rollout, &rules, now).err()));
        let verdicts = verdicts.collect();
        Ok(Some(VehicleView { vehicle, verdicts, attacks }))
    }

    /// Replaces the rules. Only with `control` held, and after the change is durable.
    pub(super) fn change_rules(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = Rules::clone(&self.rules.load());
        change(&mut rules);
        self.rules.store(Arc::new(rules));
    }

    /// An approval belongs into the story of every rollout of its release.
    async fn note_for_release(
        &self,
        change: &mut Change,
        approval: &Approval,
        kind: &'static str,
        text: &str,
        now: UnixTime,
    ) -> Result<(), RegistryError> {
        let rules = self.rules.load();
        let mut noted = false;
        for rollout in rules.rollouts.iter().filter(|rollout| rollout.release == approval.release) {
            change.add_event(&about(rollout, kind, text.to_owned()), now).await?;
            noted = true;
        }
        if !noted {
            let event = NewEvent { kind, rollout: None, vehicle_id: None, text: text.to_owned() };
            change.add_event(&event, now).await?;
        }
        Ok(())
    }
}

fn about(rollout: &Rollout, kind: &'static str, text: String) -> NewEvent {
    NewEvent { kind, rollout: Some(rollout.id), vehicle_id: None, text }
}

fn describe(act: &Act) -> (&'static str, String) {
    match act {
        Act::Start => ("rollout_started", "started".to_owned()),
        Act::Pause { by: PausedBy::Operator, reason } => ("rollout_paused", format!("paused by an operator: {reason}")),
        Act::Pause { by: PausedBy::Gate, reason } => ("rollout_paused", format!("paused by the gate: {reason}")),
        Act::Resume { note } => ("rollout_resumed", format!("resumed: {note}")),
        Act::Advance => ("rollout_advanced", "next wave opened".to_owned()),
    }
}

fn progress(rollout: &Rollout, fleet: &[Arc<FleetVehicle>], outcomes: &[Outcome], rules: &Rules, now: UnixTime) -> Vec<WaveProgress> {
    let by_vehicle: BTreeMap<&str, &Outcome> = outcomes.iter().map(|outcome| (outcome.vehicle_id.as_str(), outcome)).collect();
    let mut waves = vec![WaveProgress::default(); rollout.waves.len()];
    for vehicle in fleet {
        let vehicle = &vehicle.state.load().vehicle;
        let wave = rollout.wave_for(vehicle).filter(|_| rollout.selector.selects(vehicle));
        let Some(wave) = wave.map(|wave| &mut waves[wave]) else { continue };
        wave.selected += 1;
        wave.reached += u64::from(rollout.wave_of(vehicle, now).is_some());
        if let Err(withheld) = verdict(vehicle, rollout, rules, now) {
            *wave.withheld.entry(withheld.of_vehicles_like(vehicle)).or_default() += 1;
        }
        if let Some(outcome) = by_vehicle.get(&*vehicle.id) {
            wave.count(outcome);
        }
    }
    waves
}

impl WaveProgress {
    fn count(&mut self, outcome: &Outcome) {
        *self.stages.entry(outcome.stage.name().to_owned()).or_default() += 1;
        if let Some(reason) = &outcome.reason_name {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        match outcome.counted {
            Some(Counted::Confirmed) => self.confirmed += 1,
            Some(Counted::Failed) => self.failed += 1,
            None => {}
        }
        if said(outcome.stage) == Said::GaveUp && outcome.counted != Some(Counted::Failed) {
            match blame(outcome.reason_number) {
                Blame::NotInstallable => self.not_installable += 1,
                // The release, not counted: told again, by a vehicle whose first failure was not the release's.
                Blame::Circumstances | Blame::Release => self.not_blamed += 1,
            }
        }
    }
}
