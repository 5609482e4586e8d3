//! The update thread: turns what the state machine says into calls, and what happened into its inputs. It holds no opinion of its
//! own about what should happen next.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use switchback_signing::{
    keys::Signer,
    metadata::vehicle::{EnrollmentRequest, Reason, ReleaseRef, UpdateState},
    time::UnixTime,
    trust::{Attack, Installed, MetadataCache, Outcome, ReleaseFloor, TrustError, VehicleIdentity, VerifiedTarget},
};

use super::{
    Event, EventKind, Offer, Status, VehicleCallbacks, VehicleConfig, check,
    driver::Pulse,
    install::{Install, Setback, Step},
    link::Link,
    orders::Orders,
    reason,
    report::{self, Counters, Facts, release_of},
    start::model_files,
    status::Board,
};
use crate::{
    engine::{Engine, EngineEvent, Entry, Phase},
    fetch::{Backoff, FetchError, RequestKey},
    store::{Failure, Folder, InstalledModel, Occupant, SlotId, Store},
    update::{Blame, Consent, Input, Output, Update, VehicleState},
};

/// Time between two looks at engine and vehicle while a model is on its way to driving: a frame at 50 Hz.
const TICK: Duration = Duration::from_millis(20);

/// Longest rest of an idle vehicle. It is woken by orders; this bounds how late an event of the engine is seen.
const REST_MAX: Duration = Duration::from_secs(1);

/// Without news, the server hears from the vehicle at least this often, so that silence means something.
const REPORT_INTERVAL: Duration = Duration::from_secs(3600);

/// Bounds on what the server may ask for between two polls.
const POLL_MIN: Duration = Duration::from_secs(1);
const POLL_MAX: Duration = Duration::from_secs(86_400);

/// Document that says that the server knows this vehicle.
const ENROLLED_FILE: &str = "enrolled";

/// What the start hands over.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) link: Link,
    pub(super) key: Arc<dyn Signer + Send + Sync>,
    pub(super) identity: VehicleIdentity,
    pub(super) cache: MetadataCache,
    pub(super) active: Option<Active>,
    pub(super) update: Update,
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
}

/// Something that is done again and again, at longer intervals while it fails.
struct Task {
    due: Option<Instant>,
    backoff: Backoff,
}

impl Task {
    fn due_now() -> Self {
        Self { due: Some(Instant::now()), backoff: Backoff::default() }
    }

    fn never() -> Self {
        Self { due: None, backoff: Backoff::default() }
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    fn after(&mut self, wait: Duration) {
        self.due = Some(Instant::now() + wait);
    }

    fn succeeded(&mut self, next: Option<Duration>) {
        self.backoff.succeeded();
        self.due = next.map(|wait| Instant::now() + wait);
    }

    fn failed(&mut self, retry_after: Option<Duration>) {
        let wait = self.backoff.failed(random(), retry_after);
        self.after(wait);
    }
}

pub(super) struct Worker {
    config: VehicleConfig,
    callbacks: VehicleCallbacks,
    store: Store,
    engine: Engine,
    link: Link,
    key: Arc<dyn Signer + Send + Sync>,
    identity: VehicleIdentity,
    cache: MetadataCache,
    update: Update,
    board: Arc<Board>,
    orders: Arc<Orders>,
    pulse: Arc<Pulse>,
    active: Option<Active>,
    /// What to go back to during a trial.
    previous: Option<Active>,
    /// What the Director assigned last and the update is about.
    target: Option<VerifiedTarget>,
    install: Option<Install>,
    candidate: Option<Candidate>,
    /// The candidate waits for the engine to be free.
    load_wanted: bool,
    enroll: Task,
    check: Task,
    download: Task,
    report: Task,
    counters: Counters,
    /// The attack that was detected since the last report.
    attack: Option<Reason>,
    downloads_paused: u64,
    checks_failed: u64,
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
        let Parts { store, engine, link, key, identity, cache, active, update } = parts;
        let mut worker = Self {
            config,
            callbacks,
            store,
            engine,
            link,
            key,
            identity,
            cache,
            update,
            board,
            orders,
            pulse,
            active,
            previous: None,
            target: None,
            install: None,
            candidate: None,
            load_wanted: false,
            enroll: Task::never(),
            check: Task::due_now(),
            download: Task::never(),
            report: Task::due_now(),
            counters: Counters::new(),
            attack: None,
            downloads_paused: 0,
            checks_failed: 0,
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
            if orders.activate {
                self.input(Input::Activate);
            }
            while let Some(event) = self.engine.poll_event() {
                self.engine_event(event);
            }
            if matches!(self.update.stage(), UpdateState::Armed | UpdateState::Trial) {
                self.input(Input::Vehicle(self.vehicle_state()));
            }
            self.act();
            if !self.work() {
                self.rest();
            }
        }
    }

    /// Does one thing that takes time; `false` when none is due.
    fn work(&mut self) -> bool {
        if self.load_wanted && matches!(self.engine.status().phase, Phase::Idle | Phase::Settling) {
            self.load();
        } else if self.enroll.due.is_some() {
            // Before it is known, the server answers nothing else.
            if !self.enroll.is_due() {
                return false;
            }
            self.enroll();
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
        for task in [&mut self.enroll, &mut self.download, &mut self.report] {
            if task.due.is_some() {
                task.after(Duration::ZERO);
            }
        }
    }

    fn rest(&mut self) {
        let model_moves = self.load_wanted || self.candidate.is_some();
        if model_moves {
            if let Some(event) = self.engine.wait_event(TICK) {
                self.engine_event(event);
            }
            return;
        }
        let tasks = [&self.enroll, &self.check, &self.download, &self.report];
        let next = tasks.into_iter().filter_map(|task| task.due).min();
        let wait = next.map_or(REST_MAX, |due| due.saturating_duration_since(Instant::now()));
        self.orders.rest(wait.clamp(Duration::from_millis(1), REST_MAX));
    }

    /// The vehicle is being switched off in good order.
    fn close(mut self) {
        if let Some(install) = &mut self.install
            && let Err(setback) = install.save(&mut self.store)
        {
            tracing::warn!(?setback, "the download was not saved");
        }
        if let (UpdateState::Trial, Some(candidate)) = (self.update.stage(), &self.candidate)
            && let Err(error) = self.store.suspend_trial(candidate.slot)
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
                Output::Load => self.load_wanted = true,
                Output::Cancel => self.cancel(),
                Output::RecordTry => self.record_try(),
                Output::Swap => self.swap(),
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
                self.load_wanted = false;
            }
        }
        let (release, reason) = (self.update.release().cloned(), self.update.reason().cloned());
        let model = release.as_ref().map(|release| format!("{} {}", release.model, release.version)).unwrap_or_default();
        match &reason {
            Some(reason) => tracing::warn!(state = stage.name(), model, reason.number, reason.name, reason.text, "update"),
            None => tracing::info!(state = stage.name(), model, "update"),
        }
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
        self.input(Input::Consent(answer));
    }

    fn download(&mut self) {
        let begun = self.install.is_some();
        let result = match (&mut self.install, &self.target) {
            (Some(install), _) => install.step(&self.link, &mut self.store),
            (None, Some(target)) => Install::begin(target, &self.link, &mut self.store).map(|install| {
                self.install = Some(install);
                Step::Chunk
            }),
            (None, None) => {
                self.download = Task::never();
                return;
            }
        };
        if !begun && self.install.is_some() {
            self.input(Input::DownloadBegan);
        }
        let progress_permille = self.install.as_ref().map_or(0, Install::progress_permille);
        self.board.change(|status| status.progress_permille = progress_permille);
        match result {
            Ok(Step::Chunk) => self.download.succeeded(Some(Duration::ZERO)),
            Ok(Step::Complete(model)) => {
                self.download = Task::never();
                self.candidate =
                    Some(Candidate { slot: model.slot(), occupant: model.occupant().clone(), model: Some(model), generation: 0 });
                self.input(Input::Staged);
            }
            Err(Setback::Network(error)) => {
                self.download.failed(error.retry_after());
                self.downloads_paused += 1;
                self.suspect(&error);
                self.tell(EventKind::DownloadPaused, self.update.release().cloned(), Some(reason::of_fetch(&error)));
            }
            Err(Setback::Failed(reason, blame)) => self.input(Input::Failed(reason, blame)),
        }
    }

    /// Gives the staged release to the engine.
    fn load(&mut self) {
        self.load_wanted = false;
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        // Read back in this run already, or after a restart now.
        let model = candidate.model.take().map_or_else(|| self.store.load(candidate.slot).map(Box::new), Ok);
        let generation = self.store.generation() + 1;
        let result = match model {
            Ok(model) => {
                candidate.generation = generation;
                let files = model_files(&model, generation, Entry::Candidate);
                self.engine.load(files).map_err(|error| (reason::of_engine(&error), Blame::Circumstances))
            }
            Err(error) => Err((reason::of_store(&error), reason::blame_of_store(&error))),
        };
        if let Err((reason, blame)) = result {
            self.input(Input::Failed(reason, blame));
        }
    }

    fn cancel(&mut self) {
        self.load_wanted = false;
        let with_engine = self.candidate.as_ref().is_some_and(|candidate| candidate.generation > 0);
        if with_engine && let Err(error) = self.engine.cancel() {
            // It was refused or swapped meanwhile; its event says so and is not needed any more.
            tracing::debug!(%error, "the candidate could not be taken back");
        }
    }

    fn record_try(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        match self.store.begin_trial(candidate.slot) {
            Ok(()) => self.input(Input::TryRecorded),
            Err(error) => self.input(Input::RecordFailed(reason::of_store(&error))),
        }
    }

    fn swap(&mut self) {
        if let Err(error) = self.engine.activate() {
            self.input(Input::Failed(reason::of_engine(&error), Blame::Circumstances));
        }
    }

    fn record_confirmation(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        match self.store.confirm(candidate.slot) {
            Ok(()) => self.input(Input::ConfirmationRecorded),
            Err(error) => {
                tracing::error!(%error, "the confirmation was not recorded; it is tried again");
                self.input(Input::RecordFailed(reason::of_store(&error)));
            }
        }
    }

    fn confirm(&mut self) {
        if let Err(error) = self.engine.confirm() {
            // It failed in this very moment and the previous model drives until the next start, which begins with the new one again.
            tracing::error!(%error, "confirmed, and rolled back by the driver at the same time");
        }
        self.previous = None;
        if let Some(active) = &mut self.active {
            active.on_trial = false;
        }
    }

    fn record_failure(&mut self, reason: &Reason, blame: Blame) {
        let failure = Failure { verdict: reason::verdict(blame), number: reason.number, name: &reason.name };
        let from_candidate = self.candidate.as_ref().map(|candidate| (Some(candidate.slot), candidate.occupant.index_sha256));
        // What arrived stays for the next try when the release is not to blame.
        let from_install =
            self.install.as_ref().map(|install| (install.slot().filter(|_| blame != Blame::Nobody), install.occupant().index_sha256));
        let from_target = self.target.as_ref().map(|target| (None, target.sha256()));
        let result = match from_candidate.or(from_install).or(from_target) {
            Some((Some(slot), _)) => self.store.reject(slot, failure),
            Some((None, index_sha256)) => self.store.count_failure(index_sha256, failure),
            None => Ok(()),
        };
        if let Err(error) = result {
            // The slot stays as it was; its tries are counted, so this cannot go on for ever.
            tracing::error!(%error, "the failure was not recorded");
        }
    }

    fn engine_event(&mut self, event: EngineEvent) {
        let candidate = self.candidate.as_ref().map_or(0, |candidate| candidate.generation);
        let is_ours = |generation: u64| generation == candidate && candidate > 0;
        match event {
            EngineEvent::SelfTestPassed { generation, cases, .. } if is_ours(generation) => {
                tracing::info!(cases, "the self-test passed");
                self.input(Input::SelfTestPassed);
                if self.active.is_some() {
                    self.input(Input::ShadowBegan);
                }
            }
            EngineEvent::ShadowPassed { generation, frames, lateral_m } if is_ours(generation) => {
                tracing::info!(frames, lateral_m, "the shadow run passed");
            }
            EngineEvent::Armed { generation } if is_ours(generation) => self.input(Input::Armed),
            EngineEvent::Swapped { generation } if is_ours(generation) => {
                self.swapped();
                self.input(Input::Swapped);
            }
            EngineEvent::TrialPassed { generation } if is_ours(generation) => self.input(Input::TrialPassed),
            EngineEvent::Refused { generation, refusal } if is_ours(generation) => {
                self.input(Input::Failed(reason::of_refusal(&refusal), reason::blame_of_refusal(&refusal)));
            }
            EngineEvent::RolledBack { generation, reason } if is_ours(generation) => {
                self.active = self.previous.take();
                self.input(Input::Failed(reason::of_roll_back(reason), reason::blame_of_roll_back(reason)));
            }
            other => tracing::debug!(?other, "an event of a model that is not on its way"),
        }
    }

    fn swapped(&mut self) {
        let Some(candidate) = &self.candidate else {
            return;
        };
        let Candidate { slot, occupant, generation, .. } = candidate;
        let active = Active { slot: *slot, occupant: occupant.clone(), generation: *generation, on_trial: true };
        self.previous = self.active.replace(active);
    }

    fn vehicle_state(&self) -> VehicleState {
        let state = self.callbacks.vehicle_state.as_ref().map_or_else(|| self.pulse.vehicle_state(), |state| state());
        VehicleState { has_model: self.active.is_some(), ..state }
    }

    fn take_up_enrollment(&mut self) {
        let known = self.config.enrollment_token.is_none() || matches!(self.store.read_document(Folder::Keys, ENROLLED_FILE), Ok(Some(_)));
        if !known {
            self.enroll = Task::due_now();
        }
        self.board.change(|status| status.enrolled = known);
    }

    fn take_up_candidate(&mut self) {
        let state = self.store.state();
        if let Some(slot) = state.pending()
            && let Some(occupant) = state.slot(slot).occupant()
        {
            self.candidate = Some(Candidate { slot, occupant: occupant.clone(), model: None, generation: 0 });
        }
    }

    fn enroll(&mut self) {
        let request = EnrollmentRequest {
            token: self.config.enrollment_token.clone().unwrap_or_default(),
            vehicle_id: self.identity.vehicle_id.clone(),
            ecu_serial: self.identity.ecu_serial.clone(),
            hardware_id: self.identity.hardware_id.clone(),
            public_key: self.key.public_key(),
            sdk_version: self.identity.sdk_version,
        };
        match self.link.enroll(&request) {
            Ok(()) => {
                self.enroll.succeeded(None);
                if let Err(error) = self.store.write_document(Folder::Keys, ENROLLED_FILE, request.vehicle_id.as_str().as_bytes()) {
                    // Asked again at the next start; the server answers the same vehicle with the same key alike.
                    tracing::warn!(%error, "the enrollment was not recorded");
                }
                tracing::info!(vehicle.id = %self.identity.vehicle_id, "enrolled");
                let time_s = self.now().seconds();
                let event = Event { time_s, kind: EventKind::Enrolled, release: None, reason: None };
                self.board.tell(event, |status| status.enrolled = true);
            }
            Err(error) => {
                self.enroll.failed(error.retry_after());
                let kind = match error {
                    FetchError::Refused { .. } | FetchError::NotFound { .. } => EventKind::EnrollmentFailed,
                    _ => EventKind::CheckFailed,
                };
                self.check_failed(kind, &error);
            }
        }
    }

    fn run_check(&mut self) {
        let confirmed = self.store.state().confirmed().and_then(|slot| self.store.state().slot(slot).occupant());
        let installed =
            Installed { floor: ReleaseFloor(self.store.state().floor()), image_sha256: confirmed.map(|occupant| occupant.index_sha256) };
        let key = RequestKey { signer: &*self.key, now: self.now() };
        let checked = check::run(&mut self.cache, &self.identity, installed, &mut self.link, &mut self.store, key);
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => {
                self.check.failed(None);
                self.checks_failed += 1;
                self.fail_check(EventKind::CheckFailed, reason::of_store(&error));
                match check::load_cache(&self.store, &self.config.anchors) {
                    Ok(cache) => self.cache = cache,
                    Err(error) => tracing::error!(%error, "the trusted metadata cannot be read"),
                }
                return;
            }
        };
        match (checked.outcome, checked.network) {
            (Outcome::Refused(TrustError::Unreachable { .. }), Some(error)) => {
                self.check.failed(error.retry_after());
                self.check_failed(EventKind::CheckFailed, &error);
                return;
            }
            (Outcome::Refused(error), _) => self.not_believed(&error),
            (Outcome::NothingNew, _) => self.input(Input::Withdrawn),
            (Outcome::Install(target), _) => self.offered(target),
        }
        // First what follows from the answer, then the word that there is one.
        self.act();
        self.check.succeeded(Some(self.poll_wait()));
        let time_s = self.now().seconds();
        let event = Event { time_s, kind: EventKind::Checked, release: None, reason: None };
        self.board.tell(event, |status| {
            status.check_failure = None;
            status.checks += 1;
        });
    }

    fn offered(&mut self, target: VerifiedTarget) {
        let release = target.release();
        let release =
            ReleaseRef { model: release.model.clone(), version: release.version.clone(), release_counter: release.release_counter };
        let known = self.candidate.as_ref().map(|candidate| candidate.occupant.index_sha256);
        let known = known.or(self.target.as_ref().map(VerifiedTarget::sha256));
        if self.update.is_under_way() && self.update.release() == Some(&release) && known != Some(target.sha256()) {
            // The same name on other bytes: another release, whatever it calls itself.
            self.input(Input::Withdrawn);
            self.act();
        }
        let quarantine = self.store.state().quarantine(&target.sha256()).map(reason::of_quarantine);
        self.target = Some(target);
        self.input(Input::Offered(crate::update::Offer { release, quarantine }));
    }

    fn not_believed(&mut self, error: &TrustError) {
        let reason = reason::of_trust(error);
        if error.attack().is_some_and(|attack| attack != Attack::DropRequest) {
            self.attack = Some(reason.clone());
        }
        self.report.after(Duration::ZERO);
        if matches!(error, TrustError::FileMissing { .. }) || self.update.is_under_way() {
            self.tell(EventKind::NotBelieved, None, Some(reason));
        } else {
            self.input(Input::NotBelieved(reason));
        }
    }

    fn send_report(&mut self) {
        let now = self.now();
        let number = match self.counters.next(&mut self.store) {
            Ok(number) => number,
            Err(error) => {
                tracing::error!(%error, "no number for a report");
                return self.report.failed(None);
            }
        };
        let state = self.store.state();
        let stage = self.update.stage();
        let about = self.update.release().filter(|_| !matches!(stage, UpdateState::Idle | UpdateState::Confirmed)).cloned();
        let facts = Facts {
            identity: &self.identity,
            installed: state.confirmed().and_then(|slot| state.slot(slot).occupant()),
            active: self.active.as_ref().map(|active| release_of(&active.occupant)),
            candidate: about,
            update: stage,
            reason: self.update.reason().cloned(),
            attack: self.attack.clone(),
            counters: self.counters(),
            number,
            now,
        };
        let manifest = match report::manifest(facts, &*self.key) {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::error!(%error, "the vehicle's key does not sign");
                return self.report.failed(None);
            }
        };
        match self.link.report(&manifest, RequestKey { signer: &*self.key, now }) {
            Ok(answer) => {
                self.attack = None;
                self.report.succeeded(Some(REPORT_INTERVAL));
                if let Some(seconds) = answer.poll_after_s {
                    self.config.poll_interval = Duration::from_secs(seconds).clamp(POLL_MIN, POLL_MAX);
                }
            }
            Err(error) => {
                if matches!(error, FetchError::Refused { status: 409, .. }) {
                    self.counters.skip();
                }
                tracing::warn!(error = %reason::story(&error), "the report was not sent; it is tried again");
                self.report.failed(error.retry_after());
            }
        }
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let driving = self.pulse.counters().into_iter();
        let ours = [("downloads_paused", self.downloads_paused), ("checks_failed", self.checks_failed)];
        driving.chain(ours).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn check_failed(&mut self, kind: EventKind, error: &FetchError) {
        self.checks_failed += 1;
        self.suspect(error);
        self.fail_check(kind, reason::of_fetch(error));
    }

    fn fail_check(&mut self, kind: EventKind, reason: Reason) {
        tracing::warn!(reason.number, reason.name, reason.text, "the server could not be asked");
        let event = Event { time_s: self.now().seconds(), kind, release: None, reason: Some(reason.clone()) };
        self.board.tell(event, |status| status.check_failure = Some(reason));
    }

    /// Uptane, 5.4.4: an ECU should report slow retrieval and data without end.
    fn suspect(&mut self, error: &FetchError) {
        if matches!(error, FetchError::TooSlow { .. } | FetchError::TooLong { .. }) {
            self.attack = Some(reason::of_fetch(error));
        }
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

    /// The poll interval, a tenth more or less, so that a fleet that was switched on at once does not ask at once for ever.
    fn poll_wait(&self) -> Duration {
        let tenth = self.config.poll_interval / 10;
        self.config.poll_interval - tenth + tenth.mul_f64((random() & 0xffff) as f64 / 32_768.0)
    }

    fn now(&self) -> UnixTime {
        UnixTime::from_seconds(self.callbacks.clock.as_ref().map_or_else(system_time, |clock| clock()))
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

/// Seconds since 1970-01-01 UTC by the system's clock.
pub(super) fn system_time() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 was never set; time zero makes all metadata look fresh, and the OEM's clock callback is there for that.
    elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}

/// For waits only: without randomness the fleet merely comes in step.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
