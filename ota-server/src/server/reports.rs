//! The one writer for what vehicles bring about: their reports, the gate's decisions about them, and new metadata.
//!
//! What waits is written in one transaction: one flush for many vehicles. Reports come before metadata, and the gates between them, so
//! that a report which stops a rollout also stops it for the polls that waited beside it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use switchback_signing::{
    keys::SignerError,
    metadata::{
        Nonce,
        vehicle::{EcuReport, Reason, ReleaseRef, ReportPayload, UpdateState},
    },
    time::UnixTime,
    trust::report::VerifiedManifest,
};
use tokio::sync::oneshot;

use super::{PollError, Server, secondaries};
use crate::{
    content_keys::{ContentKeys, ContentKeysError},
    director::{self, Held, Installed, SignedSet, SignersId, Terms},
    fleet::{FleetVehicle, VehicleState},
    gate::{self, Blame, Said},
    metadata_cache::CacheKey,
    registry::{Change, Counted, NewEvent, Outcome, RegistryError, StoredMetadata},
    rollout::{Act, GaveUp, PausedBy, ReleaseName, Rollout, RolloutId, RolloutState, Rules, Vehicle, assignment},
};

/// After this time an attack that goes on is written down once more, seconds.
const ATTACK_AGAIN_S: i64 = 3_600;

/// How many events one vehicle can bring about in that time: more than ten ECUs in trouble have to say. Whoever has a vehicle's key sends a
/// report a second, and each could tell of something else.
const EVENTS_OF_VEHICLE_MAX: usize = 32;

/// Longest event that a vehicle brings about, characters. A report has room for a text of 64 KiB.
const EVENT_CHARS_MAX: usize = 2_000;

/// Something for the writer.
#[derive(Debug)]
pub enum Work {
    /// A verified report.
    Report {
        /// The vehicle that signed it.
        vehicle: Arc<FleetVehicle>,
        /// What its ECUs say.
        manifest: Box<VerifiedManifest>,
        /// The signed manifest, as evidence.
        body: Vec<u8>,
        /// Told when the report is durable.
        reply: oneshot::Sender<Result<(), ReportError>>,
    },
    /// A vehicle whose metadata must be signed anew.
    Renew {
        /// The vehicle.
        vehicle: Arc<FleetVehicle>,
        /// What it asks with, if it asks whether its metadata is of today.
        nonce: Option<Nonce>,
        /// Told what is in force when the metadata is durable.
        reply: oneshot::Sender<Result<Held, PollError>>,
    },
}

/// Why a report was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Old, or sent twice.
    #[error("report counter {counter} is not above {last}, the last one accepted")]
    Replayed {
        /// Counter of the report.
        counter: u64,
        /// Counter of the last accepted one.
        last: u64,
    },
    /// The report could not be made durable.
    #[error("the report could not be stored")]
    NotDurable,
}

/// Why a batch could not be written.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// What will be visible once the transaction is durable.
struct Batch {
    now: UnixTime,
    reports_per_vehicle: u32,
    rules: Rules,
    rules_changed: bool,
    states: HashMap<Arc<str>, (Arc<FleetVehicle>, VehicleState)>,
    files: Vec<(CacheKey, Arc<[u8]>)>,
    reported: BTreeSet<RolloutId>,
    events: Vec<NewEvent>,
}

impl Server {
    /// Hands a verified report to the writer and waits until it is durable.
    pub async fn report(&self, vehicle: Arc<FleetVehicle>, manifest: VerifiedManifest, body: Vec<u8>) -> Result<(), ReportError> {
        let (reply, answer) = oneshot::channel();
        let work = Work::Report { vehicle, manifest: Box::new(manifest), body, reply };
        self.writer.send(work).await.map_err(|_| ReportError::NotDurable)?;
        answer.await.map_err(|_| ReportError::NotDurable)?
    }

    /// Writes what waits and answers everybody.
    pub async fn write(&self, work: Vec<Work>) {
        let (mut reports, mut renewals) = (Vec::new(), Vec::new());
        for item in work {
            match item {
                Work::Report { vehicle, manifest, body, reply } => reports.push((vehicle, manifest, body, reply)),
                Work::Renew { vehicle, nonce, reply } => renewals.push((vehicle, nonce, reply)),
            }
        }
        let _control = self.control.lock().await;
        // A vehicle that enrolled anew while this waited is another one now; who holds its old key hears that nothing was stored.
        let is_known = |vehicle: &Arc<FleetVehicle>| {
            self.fleet.find(vehicle.addressee.vehicle_id.as_str()).is_some_and(|known| Arc::ptr_eq(&known, vehicle))
        };
        reports.retain(|(vehicle, ..)| is_known(vehicle));
        renewals.retain(|(vehicle, ..)| is_known(vehicle));
        let mut batch = Batch::new(self, Rules::clone(&self.rules.load()));
        let report_refs = reports.iter().map(|(vehicle, manifest, body, _)| (vehicle, &**manifest, body.as_slice()));
        let renewal_refs = renewals.iter().map(|(vehicle, nonce, _)| (vehicle, *nonce));
        let written = self.write_batch(&mut batch, report_refs, renewal_refs).await;
        if let Err(error) = &written {
            tracing::error!(error = error as &(dyn std::error::Error + 'static), "nothing could be written");
        }
        // A receiver that is gone hung up; what it brought is durable all the same.
        let failed = written.is_err();
        let (report_results, renewal_results) = written.unwrap_or_default();
        if !failed {
            batch.publish(self);
        }
        let mut results = report_results.into_iter();
        for (.., reply) in reports {
            let _ = reply.send(results.next().unwrap_or(Err(ReportError::NotDurable)));
        }
        let mut results = renewal_results.into_iter();
        for (.., reply) in renewals {
            let _ = reply.send(results.next().unwrap_or(Err(PollError::NotDurable)));
        }
    }

    async fn write_batch<'a>(
        &self,
        batch: &mut Batch,
        reports: impl Iterator<Item = (&'a Arc<FleetVehicle>, &'a VerifiedManifest, &'a [u8])>,
        renewals: impl Iterator<Item = (&'a Arc<FleetVehicle>, Option<Nonce>)>,
    ) -> Result<(Vec<Result<(), ReportError>>, Vec<Result<Held, PollError>>), BatchError> {
        let mut change = self.registry.change().await?;
        let (mut report_results, mut renewal_results) = (Vec::new(), Vec::new());
        for (vehicle, manifest, body) in reports {
            report_results.push(batch.report(&mut change, vehicle, manifest, body).await?);
        }
        batch.run_gates(&mut change).await?;
        for (vehicle, nonce) in renewals {
            renewal_results.push(batch.renew(self, &mut change, vehicle, nonce).await?);
        }
        for event in &batch.events {
            change.add_event(event, batch.now).await?;
        }
        change.commit().await?;
        Ok((report_results, renewal_results))
    }
}

impl Batch {
    fn new(server: &Server, rules: Rules) -> Self {
        let (now, reports_per_vehicle) = (server.now(), server.config.reports_per_vehicle);
        Self {
            now,
            reports_per_vehicle,
            rules,
            rules_changed: false,
            states: HashMap::new(),
            files: Vec::new(),
            reported: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// The vehicle's state as this batch leaves it so far.
    fn state(&mut self, vehicle: &Arc<FleetVehicle>) -> &mut VehicleState {
        let state = vehicle.state.load_full();
        let id = Arc::clone(&state.vehicle.id);
        let fresh = || (Arc::clone(vehicle), VehicleState::clone(&state));
        &mut self.states.entry(id).or_insert_with(fresh).1
    }

    async fn report(
        &mut self,
        change: &mut Change,
        vehicle: &Arc<FleetVehicle>,
        manifest: &VerifiedManifest,
        body: &[u8],
    ) -> Result<Result<(), ReportError>, BatchError> {
        let now = self.now;
        // What becomes of a release is the Primary's word, which knows why a Secondary failed it.
        let report = manifest.primary();
        let gave_up = gave_up(&self.rules, &vehicle.state.load().vehicle, &report.payload);
        let state = self.state(vehicle);
        let (counter, last) = (report.counter, state.report_counter);
        if counter <= last {
            return Ok(Err(ReportError::Replayed { counter, last }));
        }
        let heard = match secondaries::hear(&mut state.secondaries, manifest) {
            Ok(heard) => heard,
            Err(replayed) => return Ok(Err(replayed)),
        };
        state.report_counter = counter;
        state.installed = installed(report);
        state.vehicle.confirmed_counter = state.vehicle.confirmed_counter.max(confirmed_counter(&report.payload));
        if let Some(gave_up) = &gave_up {
            state.vehicle.gave_up.retain(|known| known.sha256 != gave_up.sha256);
            state.vehicle.gave_up.push(gave_up.clone());
        }
        // An older SDK in the vehicle says nothing of it; what is sealed stays where it was sealed to.
        let told = report.payload.encryption_key.filter(|told| state.vehicle.encryption_key != Some(*told));
        if told.is_some() {
            state.vehicle.encryption_key = told;
        }
        let (reported, state) = (state.vehicle.clone(), state.clone());
        if told.is_some() {
            change.save_encryption_key(&reported.id, told.as_ref()).await?;
        }
        if let Some(gave_up) = &gave_up {
            change.add_given_up(&reported.id, gave_up, now).await?;
        }
        change.add_report(&reported.id, counter, body, self.reports_per_vehicle, now).await?;
        let confirmed = reported.confirmed_counter;
        change.save_reported(&reported.id, counter, state.installed.as_ref(), confirmed).await?;
        for ecu_serial in &heard.changed {
            let Some(secondary) = state.secondaries.get(ecu_serial) else { continue };
            change.save_secondary(ecu_serial.as_str(), secondary).await?;
        }
        if let Some(event) = attack_event(&reported.id, report)
            && let Some(attack) = self.tell(change, &reported.id, event, Again::AfterAWhile).await?
        {
            tracing::warn!(vehicle.id = &*reported.id, %attack, "a vehicle reports an attack");
            self.sign_anew(change, vehicle).await?;
        }
        for trouble in heard.troubles {
            self.tell(change, &reported.id, trouble.event(&reported.id), Again::AtOnce).await?;
        }
        let Some(rollout) = self.rollout_of(change, &state, report).await? else { return Ok(Ok(())) };
        let mut outcome = outcome(&reported.id, &report.payload);
        if outcome.counted == Some(Counted::Failed) {
            let before = change.reported(rollout, &outcome.vehicle_id).await?;
            outcome.counted = outcome.counted.filter(|_| !gate::is_told_again(outcome.reason_number, before));
        }
        change.note_outcome(rollout, &outcome, now).await?;
        if outcome.counted.is_some() {
            self.reported.insert(rollout);
        }
        if let Some(event) = failure_event(rollout, &outcome) {
            self.tell(change, &reported.id, event, Again::AtOnce).await?;
        }
        Ok(Ok(()))
    }

    /// Writes down what a vehicle has brought about, and returns it as it is written; not what it told not long ago, where that would be
    /// the same `again`, nor more than it can have to say.
    async fn tell(
        &mut self,
        change: &mut Change,
        vehicle_id: &str,
        event: NewEvent,
        again: Again,
    ) -> Result<Option<String>, RegistryError> {
        let text: String = event.text.chars().take(EVENT_CHARS_MAX).collect();
        let mut told = change.newest_of_vehicle(vehicle_id, self.now.plus_seconds(-ATTACK_AGAIN_S), EVENTS_OF_VEHICLE_MAX).await?;
        let waiting = self.events.iter().filter(|waiting| waiting.vehicle_id.as_deref() == Some(vehicle_id));
        told.extend(waiting.map(|waiting| waiting.text.clone()));
        if told.len() >= EVENTS_OF_VEHICLE_MAX || (again == Again::AfterAWhile && told.contains(&text)) {
            return Ok(None);
        }
        self.events.push(NewEvent { text: text.clone(), ..event });
        Ok(Some(text))
    }

    /// Whatever a vehicle was shown by somebody else is older than what it gets with its next poll.
    async fn sign_anew(&mut self, change: &mut Change, vehicle: &Arc<FleetVehicle>) -> Result<(), RegistryError> {
        let now = self.now;
        let state = self.state(vehicle);
        let Some(held) = &mut state.held else { return Ok(()) };
        held.signers = SignersId::default();
        // Also above what was signed for others in this second.
        let second = u64::try_from(now.seconds()).unwrap_or_default();
        held.version = held.version.max(second);
        held.timestamp_version = held.timestamp_version.max(second);
        let (id, held) = (Arc::clone(&state.vehicle.id), held.clone());
        change.save_held(&id, &held).await
    }

    /// The rollout that offered the release which the report is about.
    async fn rollout_of(&self, change: &mut Change, state: &VehicleState, report: &EcuReport) -> Result<Option<RolloutId>, RegistryError> {
        let ReportPayload { update, candidate, release, reason, .. } = &report.payload;
        let subject = match gate::said(*update) {
            Said::Nothing => None,
            Said::Underway | Said::Confirmed => candidate.as_ref().or(release.as_ref()),
            // Without a candidate the vehicle refused metadata, not a release. What drives is not to blame: otherwise anybody who
            // alters metadata on its way makes failures of vehicles that confirmed, and stops a good rollout. What the vehicle lacks
            // it finds in the metadata of what we assigned, before there is a candidate.
            Said::GaveUp if candidate.is_none() => {
                let lacks = gate::blame(reason.as_ref().map(|reason| reason.number)) == Blame::NotInstallable;
                return Ok(lacks.then(|| state.held.as_ref()?.rollout).flatten());
            }
            Said::GaveUp => candidate.as_ref(),
        };
        let Some(release) = subject.map(release_name) else { return Ok(None) };
        // The one that offered it, in the metadata that the vehicle holds or before. What no rollout offered (a workshop may bring a
        // release too) is no rollout's success or failure: least of all of another one that would bring the same release later.
        let brought = |rollout: &&Rollout| rollout.release == release;
        let held = state.held.as_ref().and_then(|held| held.rollout);
        if let Some(rollout) = self.rules.rollouts.iter().filter(brought).find(|rollout| Some(rollout.id) == held) {
            return Ok(Some(rollout.id));
        }
        for rollout in self.rules.rollouts.iter().filter(brought).rev() {
            if change.reported(rollout.id, &state.vehicle.id).await?.is_some() {
                return Ok(Some(rollout.id));
            }
        }
        Ok(None)
    }

    async fn run_gates(&mut self, change: &mut Change) -> Result<(), BatchError> {
        for rollout in &mut self.rules.rollouts {
            let running = matches!(rollout.state, RolloutState::Running);
            if !running || !self.reported.contains(&rollout.id) {
                continue;
            }
            let tally = change.tally(rollout.id).await?;
            let Some(stop) = gate::evaluate(&rollout.failure_limit, tally) else { continue };
            let pause = Act::Pause { by: PausedBy::Gate, reason: stop.to_string() };
            // A running rollout can always be paused.
            let Ok(Some(paused)) = rollout.after(pause, self.now) else { continue };
            change.save_rollout(&paused).await?;
            tracing::warn!(rollout.id = rollout.id.0, reason = %stop, "rollout paused by its gate");
            self.events.push(NewEvent {
                kind: "rollout_paused",
                rollout: Some(rollout.id),
                vehicle_id: None,
                text: format!("paused by the gate: {stop}"),
            });
            *rollout = paused;
            self.rules_changed = true;
        }
        Ok(())
    }

    async fn renew(
        &mut self,
        server: &Server,
        change: &mut Change,
        vehicle: &Arc<FleetVehicle>,
        nonce: Option<Nonce>,
    ) -> Result<Result<Held, PollError>, BatchError> {
        let now = self.now;
        let signing = server.signing.load_full();
        let signers = match signing.director_signers() {
            Ok(signers) => signers.signers(),
            Err(error) => return Ok(Err(error)),
        };
        let terms = Terms { lifetimes: server.config.lifetimes, signers: &signers, now, nonce };
        let state = self.state(vehicle).clone();
        let assignment = assignment(&state.vehicle, &self.rules, now);
        let shortcut = server.deltas.load().shortcut(state.installed.as_ref(), assignment.as_ref());
        let tell = director::Due { assignment: assignment.as_ref(), shortcut: &shortcut };
        let due = sign_due(vehicle, tell, &server.content_keys, state.held.as_ref(), &terms)?;
        let due = match due {
            Ok(due) => due,
            Err(error) => return Ok(Err(error.into())),
        };
        let (mut held, files) = match due {
            Due::Signed(signed) => (signed.held.clone(), files(signed)),
            Due::Attributed(held) => (held, Vec::new()),
            // Another request of the same vehicle was faster.
            Due::Held(held) => return Ok(Ok(held)),
        };
        let id = &state.vehicle.id;
        let before = state.held.as_ref().and_then(|held| held.rollout);
        held.rollout = assignment.map(|assignment| assignment.rollout);
        if let Some(rollout) = held.rollout.filter(|rollout| Some(*rollout) != before) {
            change.note_offered(rollout, id, now).await?;
        }
        change.save_held(id, &held).await?;
        for (role, version, bytes) in files {
            let file = StoredMetadata { role: role.to_owned(), version, bytes };
            change.add_director_metadata(id, &file).await?;
            self.files.push((CacheKey { vehicle_id: Arc::clone(id), role, version }, file.bytes.into()));
        }
        self.state(vehicle).held = Some(held.clone());
        Ok(Ok(held))
    }

    /// Makes visible what is durable.
    fn publish(self, server: &Server) {
        for (key, bytes) in self.files {
            server.director_cache.insert(key, bytes);
        }
        for (vehicle, state) in self.states.into_values() {
            vehicle.state.store(Arc::new(state));
        }
        if self.rules_changed {
            server.rules.store(Arc::new(self.rules));
        }
    }
}

/// When the same event is told once more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Whenever it happens.
    AtOnce,
    /// A vehicle says so with every poll for as long as it lasts.
    AfterAWhile,
}

/// What a vehicle holds, or what had to be signed for it.
enum Due {
    Held(Held),
    /// The same, brought by another rollout.
    Attributed(Held),
    Signed(SignedSet),
}

fn sign_due(
    vehicle: &FleetVehicle,
    tell: director::Due<'_>,
    content_keys: &ContentKeys,
    held: Option<&Held>,
    terms: &Terms<'_>,
) -> Result<Result<Due, ContentKeysError>, SignerError> {
    let work = director::work(held, tell, terms);
    let due = match (work, held) {
        (director::Work::Keep, Some(held)) => Due::Held(held.clone()),
        (director::Work::Attribute, Some(held)) => Due::Attributed(held.clone()),
        (director::Work::Timestamp, Some(held)) => Due::Signed(director::sign_timestamp(held, terms)?),
        (director::Work::All, held) | (director::Work::Keep | director::Work::Attribute | director::Work::Timestamp, held @ None) => {
            let addressee = &vehicle.addressee;
            let bundle = tell.assignment.and_then(|assignment| Some((assignment.release.encrypted_bundle?, assignment.seal_to?)));
            let content_key = match bundle.map(|(bundle, to)| content_keys.seal_for(addressee, &to, &bundle)).transpose() {
                Ok(content_key) => content_key,
                Err(error) => return Ok(Err(error)),
            };
            Due::Signed(director::sign_all(addressee, tell, content_key.as_ref(), held, terms)?)
        }
    };
    Ok(Ok(due))
}

fn files(signed: SignedSet) -> Vec<(&'static str, u64, Vec<u8>)> {
    let SignedSet { held, set, timestamp } = signed;
    let mut files = vec![("timestamp", held.timestamp_version, timestamp)];
    if let Some(set) = set {
        files.push(("targets", held.version, set.targets));
        files.push(("snapshot", held.version, set.snapshot));
    }
    files
}

/// The image that an ECU says it runs.
pub(super) fn installed(report: &EcuReport) -> Option<Installed> {
    report.installed.as_ref().map(|image| Installed {
        path: image.path.clone(),
        length: image.length,
        sha256: image.sha256.to_hex(),
        update: report.payload.update.name().to_owned(),
        release: report.payload.release.as_ref().map(release_name),
    })
}

fn release_name(release: &ReleaseRef) -> ReleaseName {
    ReleaseName { model: release.model.clone(), version: release.version.clone() }
}

/// The counter below which the vehicle will install nothing. The release that drives counts unless it is on trial.
fn confirmed_counter(payload: &ReportPayload) -> u64 {
    let release = payload.release.as_ref().filter(|_| payload.update != UpdateState::Trial);
    release.map_or(0, |release| release.release_counter)
}

/// What the vehicle gives up for good by its report.
fn gave_up(releases: &Rules, vehicle: &Vehicle, payload: &ReportPayload) -> Option<GaveUp> {
    let reason = payload.reason.as_ref();
    let for_good = gate::said(payload.update) == Said::GaveUp && gate::is_for_good(reason.map(|reason| reason.number));
    let name = release_name(payload.candidate.as_ref().filter(|_| for_good)?);
    let release = releases.published(&name, vehicle).next()?;
    let reason = reason.map_or("no reason given", |reason| reason.text.as_str()).into();
    Some(GaveUp { sha256: release.sha256.clone(), release: name, reason })
}

/// What the report says about its release, and as what the gate counts it. A failure that is not the release's is noted only.
fn outcome(vehicle_id: &str, payload: &ReportPayload) -> Outcome {
    let reason = payload.reason.as_ref();
    let reason_number = reason.map(|reason| reason.number);
    let counted = match gate::said(payload.update) {
        Said::Confirmed => Some(Counted::Confirmed),
        Said::GaveUp => (gate::blame(reason_number) == Blame::Release).then_some(Counted::Failed),
        Said::Nothing | Said::Underway => None,
    };
    Outcome {
        vehicle_id: vehicle_id.to_owned(),
        stage: payload.update,
        counted,
        reason_number,
        reason_name: reason.map(|reason| reason.name.clone()),
        reason_text: reason.map(|reason| reason.text.clone()),
    }
}

fn attack_event(vehicle_id: &str, report: &EcuReport) -> Option<NewEvent> {
    let Reason { number, name, text } = report.attack_detected.as_ref()?;
    Some(NewEvent {
        kind: "attack_reported",
        rollout: None,
        vehicle_id: Some(vehicle_id.to_owned()),
        text: format!("{name} ({number}): {text}"),
    })
}

fn failure_event(rollout: RolloutId, outcome: &Outcome) -> Option<NewEvent> {
    let failed = outcome.counted == Some(Counted::Failed);
    let (vehicle, stage) = (&outcome.vehicle_id, outcome.stage.name());
    failed.then(|| NewEvent {
        kind: "vehicle_failed",
        rollout: Some(rollout),
        vehicle_id: Some(vehicle.clone()),
        text: format!("vehicle {vehicle} reports {stage}: {}", outcome.reason_text.as_deref().unwrap_or("no reason given")),
    })
}
