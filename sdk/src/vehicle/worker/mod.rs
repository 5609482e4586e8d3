//! The update thread: turns what the state machine says into calls, and what happened into its inputs. It holds no opinion of its
//! own about what should happen next.

mod freshness;
mod hold;
mod model;
mod network;
mod offline;
mod reload;
mod secondaries;
mod server;
mod task;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use switchback_signing::{
    keys::{Signer, sealing::DecryptionKey},
    metadata::vehicle::{Reason, ReleaseRef, UpdateState},
    time::UnixTime,
    trust::{MetadataCache, VehicleIdentity, VerifiedTarget},
};

use super::{
    Event, EventKind, Offer, Status, VehicleCallbacks, VehicleConfig,
    clock::Ratchet,
    driver::{Frames, Pulse},
    install::{ChunkBytes, Install, Setback, Step, Terms, content_key},
    link::Link,
    network::NetworkBudget,
    orders::Orders,
    reason,
    report::Counters,
    status::Board,
};
use crate::{
    engine::{Engine, Phase},
    store::{Confirmation, InstalledModel, Occupant, SlotId, Store},
    update::{Consent, Input, Output, Update},
};
use freshness::Freshness;
use hold::Hold;
use offline::OfflineSource;
use task::Task;

pub(super) use reload::Lost;
pub(super) use secondaries::Secondaries;
pub(super) use task::system_time;

/// Time between two looks at engine and vehicle while a model is on its way to driving: a frame at 50 Hz.
const TICK: Duration = Duration::from_millis(20);

/// Longest rest of an idle vehicle. It is woken by orders; this bounds how late an event of the engine is seen.
const REST_MAX: Duration = Duration::from_secs(1);

/// Time until the program is asked again that answered `Later`: a driver who was asked and agreed should see something happen.
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// What the start hands over.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) link: Link,
    pub(super) key: Arc<dyn Signer + Send + Sync>,
    pub(super) decryption_key: Arc<DecryptionKey>,
    pub(super) identity: VehicleIdentity,
    pub(super) cache: MetadataCache,
    pub(super) active: Option<Active>,
    /// The confirmed model, when it did not load.
    pub(super) lost: Option<Lost>,
    pub(super) update: Update,
    pub(super) ratchet: Ratchet,
    pub(super) secondaries: Secondaries,
}

/// The model that answers steps.
#[derive(Clone)]
pub(super) struct Active {
    pub(super) slot: SlotId,
    pub(super) occupant: Occupant,
    pub(super) generation: u64,
    pub(super) on_trial: bool,
}

/// A release that is complete in its slot and does not drive yet, or is on trial.
struct Candidate {
    slot: SlotId,
    occupant: Occupant,
    /// Read back and not yet with the engine.
    model: Option<Box<InstalledModel>>,
    /// With the engine under this number; 0 before.
    generation: u64,
    /// What is on record as begun, and not yet as ended.
    counted: Run,
}

/// What a release does before it is armed, and may take the process down with it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    None,
    Load,
    Shadow,
}

pub(super) struct Worker {
    config: VehicleConfig,
    callbacks: VehicleCallbacks,
    store: Store,
    engine: Engine,
    link: Link,
    key: Arc<dyn Signer + Send + Sync>,
    decryption_key: Arc<DecryptionKey>,
    identity: VehicleIdentity,
    cache: MetadataCache,
    update: Update,
    board: Arc<Board>,
    orders: Arc<Orders>,
    pulse: Arc<Pulse>,
    frames: Frames,
    active: Option<Active>,
    /// The confirmed model, while it is tried to load it again.
    lost: Option<Lost>,
    /// The confirmed model is installed anew, as if it were not here.
    refetches: bool,
    ratchet: Ratchet,
    freshness: Freshness,
    secondaries: Secondaries,
    /// What to go back to during a trial.
    previous: Option<Active>,
    /// What the Director assigned last and the update is about.
    target: Option<VerifiedTarget>,
    /// Where the target comes from, when it is not the network.
    offline: Option<OfflineSource>,
    install: Option<Install>,
    candidate: Option<Candidate>,
    /// On record, until the engine has let the previous model go.
    confirmation: Option<Confirmation>,
    /// What the vehicle does not want for now.
    hold: Option<Hold>,
    /// When the candidate is to be given to the engine, which must be free then.
    load: Task,
    loads_failed: u32,
    enroll: Task,
    check: Task,
    consent: Task,
    download: Task,
    report: Task,
    counters: Counters,
    /// The attack that was detected since the last report.
    attack: Option<Reason>,
    downloads_paused: u64,
    checks_failed: u64,
    network: NetworkBudget,
    /// Where chunks came from, since the start.
    chunk_bytes: ChunkBytes,
}

impl Worker {
    pub(super) fn new(
        config: VehicleConfig,
        callbacks: VehicleCallbacks,
        parts: Parts,
        board: Arc<Board>,
        orders: Arc<Orders>,
        pulse: Arc<Pulse>,
    ) -> Self {
        let Parts { store, engine, link, key, decryption_key, identity, cache, active, lost, update, ratchet, secondaries } = parts;
        let freshness = Freshness::new(config.timestamp_age_max);
        let mut worker = Self {
            config,
            callbacks,
            store,
            engine,
            link,
            key,
            decryption_key,
            identity,
            cache,
            update,
            board,
            orders,
            pulse,
            frames: Frames::default(),
            active,
            lost,
            refetches: false,
            ratchet,
            freshness,
            secondaries,
            previous: None,
            target: None,
            offline: None,
            install: None,
            candidate: None,
            confirmation: None,
            hold: None,
            load: Task::never(),
            loads_failed: 0,
            enroll: Task::never(),
            check: Task::due_now(),
            consent: Task::never(),
            download: Task::never(),
            report: Task::due_now(),
            counters: Counters::new(),
            attack: None,
            downloads_paused: 0,
            checks_failed: 0,
            network: NetworkBudget::default(),
            chunk_bytes: ChunkBytes::default(),
        };
        worker.take_up_enrollment();
        worker.take_up_candidate();
        worker
    }

    pub(super) fn run(mut self) {
        loop {
            let orders = self.orders.take();
            if orders.close {
                return self.close();
            }
            if orders.check {
                self.hurry();
            }
            if let Some(file) = &orders.offline {
                self.take_offline(file);
            }
            if orders.activate {
                self.input(Input::Activate);
            }
            while let Some(event) = self.engine.poll_event() {
                self.engine_event(event);
            }
            if matches!(self.update.stage(), UpdateState::Armed | UpdateState::Trial) {
                let state = self.vehicle_state();
                self.input(Input::Vehicle(state));
            }
            self.act();
            self.let_file_go();
            if !self.work() {
                self.rest();
            }
        }
    }

    /// Does one thing that takes time; `false` when none is due.
    fn work(&mut self) -> bool {
        let engine_is_free = matches!(self.engine.status().phase, Phase::Idle | Phase::Settling);
        if engine_is_free && self.lost.as_ref().is_some_and(Lost::is_due) {
            self.reload();
        } else if engine_is_free && self.lost.is_none() && self.load.is_due() {
            self.load();
        } else if self.secondaries.settle.is_due() {
            self.settle_secondaries();
        } else if self.enroll.due.is_some() {
            // Before it is known, the server answers nothing else.
            if !self.enroll.is_due() {
                return false;
            }
            self.enroll();
        } else if self.consent.is_due() {
            self.ask_consent();
        } else if self.report.is_due() {
            self.send_report();
        } else if self.check.is_due() {
            self.run_check();
        } else if self.download.is_due() {
            self.download();
        } else {
            return false;
        }
        true
    }

    /// Does now whatever waits for another try.
    fn hurry(&mut self) {
        self.check.after(Duration::ZERO);
        // Whoever asks may know that something has changed.
        self.hold = None;
        if let Some(lost) = &mut self.lost {
            lost.hurry();
        }
        for task in [&mut self.enroll, &mut self.download, &mut self.report, &mut self.load, &mut self.secondaries.settle] {
            if task.due.is_some() {
                task.after(Duration::ZERO);
            }
        }
    }

    fn rest(&mut self) {
        let model_moves = self.candidate.is_some() || self.lost.as_ref().is_some_and(Lost::is_loading);
        if model_moves && !self.waits_for_frames() {
            if let Some(event) = self.engine.wait_event(TICK) {
                self.engine_event(event);
            }
            return;
        }
        let tasks = [&self.check, &self.consent, &self.download, &self.report, &self.secondaries.settle];
        // Until the vehicle is known, nothing else can be asked, however long it has been due.
        let next = self.enroll.due.or(tasks.into_iter().filter_map(|task| task.due).min());
        let next = next.into_iter().chain(self.lost.as_ref().and_then(|lost| lost.task.due)).min();
        let wait = next.map_or(REST_MAX, |due| due.saturating_duration_since(Instant::now()));
        self.orders.rest(wait.clamp(Duration::from_millis(1), REST_MAX));
    }

    /// Whether nothing can become of the candidate before frames arrive again, so that a parked vehicle is not kept awake by it.
    fn waits_for_frames(&mut self) -> bool {
        let stage = self.update.stage();
        let is_ordered = stage == UpdateState::Armed && self.store.state().trial().is_some();
        matches!(stage, UpdateState::Shadow | UpdateState::Armed | UpdateState::Trial) && !is_ordered && !self.frames.arrive(&self.pulse)
    }

    /// The vehicle is being switched off in good order.
    fn close(mut self) {
        if let Some(install) = &mut self.install
            && let Err(setback) = install.save(&mut self.store)
        {
            tracing::warn!(?setback, "the download was not saved");
        }
        self.end_run();
        // By what is on record: a try counts from before the swap is ordered. One that failed stays counted, whatever became of its record.
        if let Some(slot) = self.store.state().trial()
            && self.update.is_under_way()
            && let Err(error) = self.store.suspend_trial(slot)
        {
            tracing::warn!(%error, "the trial counts as a try");
        }
    }

    /// Does what the state machine says until it waits.
    fn act(&mut self) {
        while let Some(output) = self.update.poll_output() {
            match output {
                Output::Changed(stage) => self.changed(stage),
                Output::AskConsent => self.ask_consent(),
                Output::Download => self.download.after(Duration::ZERO),
                Output::Load => {
                    self.loads_failed = 0;
                    self.load = Task::due_now();
                }
                Output::Cancel => self.cancel(),
                Output::RecordTry => self.record_try(),
                Output::Swap(permission) => self.swap(permission),
                Output::Hold => self.take_order_back(),
                Output::ReturnTry => self.return_try(),
                Output::RecordConfirmation => self.record_confirmation(),
                Output::Confirm => self.confirm(),
                Output::RecordFailure(reason, blame) => self.record_failure(&reason, blame),
            }
        }
    }

    fn input(&mut self, input: Input) {
        if let Err(out_of_turn) = self.update.handle(input) {
            // An event that crossed a decision on the way: what it would have led to is no longer wanted.
            tracing::debug!(%out_of_turn, "not needed");
        }
    }

    fn changed(&mut self, stage: UpdateState) {
        // Before the word of it.
        self.end_secondaries_trial(stage);
        if stage != UpdateState::Offered {
            self.consent = Task::never();
        }
        match stage {
            UpdateState::Consented | UpdateState::Downloading => {}
            UpdateState::Idle
            | UpdateState::Offered
            | UpdateState::Staged
            | UpdateState::SelfTested
            | UpdateState::Shadow
            | UpdateState::Armed
            | UpdateState::Trial
            | UpdateState::Confirmed
            | UpdateState::RolledBack
            | UpdateState::Refused => {
                self.install = None;
                self.download = Task::never();
            }
        }
        match stage {
            UpdateState::Staged | UpdateState::SelfTested | UpdateState::Shadow | UpdateState::Armed | UpdateState::Trial => {}
            UpdateState::Idle
            | UpdateState::Offered
            | UpdateState::Consented
            | UpdateState::Downloading
            | UpdateState::Confirmed
            | UpdateState::RolledBack
            | UpdateState::Refused => {
                self.candidate = None;
                self.load = Task::never();
            }
        }
        self.refetches &= stage != UpdateState::Confirmed;
        let (release, reason) = (self.update.release().cloned(), self.update.reason().cloned());
        let model = release.as_ref().map(|release| format!("{} {}", release.model, release.version)).unwrap_or_default();
        match &reason {
            Some(reason) => tracing::warn!(state = stage.name(), model, reason.number, reason.name, reason.text, "update"),
            None => tracing::info!(state = stage.name(), model, "update"),
        }
        self.hold(stage, reason.as_ref());
        self.tell(EventKind::Update(stage), release, reason);
        self.report.after(Duration::ZERO);
    }

    fn ask_consent(&mut self) {
        let Some(target) = &self.target else {
            return;
        };
        let release = target.release();
        let offer = Offer {
            model: release.model.clone(),
            version: release.version.clone(),
            release_counter: release.release_counter,
            download_bytes: release.bundle.length,
        };
        let answer = self.callbacks.consent.as_ref().map_or(Consent::Granted, |consent| consent(&offer));
        match answer {
            Consent::Later => self.consent.after(CONSENT_INTERVAL),
            Consent::Granted | Consent::Denied => self.consent = Task::never(),
        }
        self.input(Input::Consent(answer));
    }

    fn download(&mut self) {
        let Some(allowed_bytes) = self.network_allows() else {
            return;
        };
        let terms = Terms { allowed_bytes, checkpoint_bytes: self.config.checkpoint_bytes };
        let received = self.link.received();
        if let Some(release) = self.target.as_ref().map(VerifiedTarget::sha256)
            && !self.prepare_secondaries(release)
        {
            return;
        }
        let begun = self.install.is_some();
        let link = self.offline.as_ref().and_then(OfflineSource::link).unwrap_or(&self.link);
        let result = match (&mut self.install, &self.target) {
            (Some(install), _) => install.step(link, &mut self.store, terms),
            // From the verified metadata whenever it begins or goes on: no content key lies on the disk.
            (None, Some(target)) => content_key(target, &self.decryption_key, &self.identity)
                .and_then(|key| Install::begin(target, key.as_ref(), link, &mut self.store))
                .map(|install| {
                    self.install = Some(install);
                    Step::Chunk
                }),
            (None, None) => {
                self.download = Task::never();
                return;
            }
        };
        self.network.came(self.link.received() - received);
        if !begun && self.install.is_some() {
            self.input(Input::DownloadBegan);
        }
        self.count_chunks(begun);
        match result {
            Ok(Step::Chunk) => self.download.succeeded(Some(Duration::ZERO)),
            Ok(Step::Complete(model)) => {
                self.download = Task::never();
                let ChunkBytes { downloaded, reused, delta, restored, .. } = self.board.status().chunk_bytes;
                tracing::info!(downloaded, reused, delta, restored, "the release is complete in its slot");
                let (slot, occupant) = (model.slot(), model.occupant().clone());
                self.candidate = Some(Candidate { slot, occupant, model: Some(model), generation: 0, counted: Run::None });
                self.input(Input::Staged);
            }
            Err(setback) => self.download_failed(setback),
        }
    }

    fn count_chunks(&mut self, begun: bool) {
        if let Some(reason) = self.install.as_mut().and_then(Install::take_no_delta) {
            self.tell(EventKind::DeltaNotUsed, self.update.release().cloned(), Some(reason));
        }
        let progress_permille = self.install.as_ref().map_or(0, Install::progress_permille);
        let bytes = self.install.as_mut().map(Install::take_bytes).unwrap_or_default();
        self.chunk_bytes.add(bytes);
        self.board.change(|status| {
            status.progress_permille = progress_permille;
            if !begun {
                status.chunk_bytes = ChunkBytes::default();
            }
            status.chunk_bytes.add(bytes);
        });
    }

    fn download_failed(&mut self, setback: Setback) {
        match setback {
            Setback::Network(error) => {
                self.suspect(&error);
                self.pause_download(error.retry_after(), reason::of_fetch(&error));
            }
            Setback::Failed(reason, blame, attack) => {
                self.detected(attack, &reason);
                self.input(Input::Failed(reason, blame));
            }
        }
    }

    /// It goes on by itself, at the earliest after this time.
    fn pause_download(&mut self, wait: Option<Duration>, reason: Reason) {
        self.download.failed(wait);
        self.downloads_paused += 1;
        self.tell(EventKind::DownloadPaused, self.update.release().cloned(), Some(reason));
    }

    fn tell(&self, kind: EventKind, release: Option<ReleaseRef>, reason: Option<Reason>) {
        let event = Event { time_s: self.now().seconds(), kind, release, reason };
        self.board.tell(event, |status| self.refresh(status));
    }

    fn refresh(&self, status: &mut Status) {
        let stage = self.update.stage();
        status.update = stage;
        status.active = self.active.as_ref().map(Active::model);
        status.candidate = self.update.release().filter(|_| self.update.is_under_way()).cloned();
        status.reason = self.update.reason().cloned();
        status.progress_permille = self.install.as_ref().map_or_else(|| done_permille(stage), Install::progress_permille);
    }

    /// The time, never behind what the vehicle has seen.
    fn now(&self) -> UnixTime {
        self.ratchet.time(self.clock_s())
    }

    fn clock_s(&self) -> i64 {
        self.callbacks.clock.as_ref().map_or_else(system_time, |clock| clock())
    }
}

/// Progress of a download that is not going on.
fn done_permille(stage: UpdateState) -> u32 {
    match stage {
        UpdateState::Staged
        | UpdateState::SelfTested
        | UpdateState::Shadow
        | UpdateState::Armed
        | UpdateState::Trial
        | UpdateState::Confirmed
        | UpdateState::RolledBack => 1000,
        UpdateState::Idle | UpdateState::Offered | UpdateState::Consented | UpdateState::Downloading | UpdateState::Refused => 0,
    }
}
