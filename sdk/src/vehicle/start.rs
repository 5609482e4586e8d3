//! From a directory to a vehicle that drives.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use switchback_signing::metadata::vehicle::{Reason, UpdateState};

use super::{
    ActiveModel, ChunkBytes, Driver, Event, EventKind, Status, VehicleCallbacks, VehicleConfig, VehicleError, check,
    clock::Ratchet,
    config,
    driver::Pulse,
    key,
    link::Link,
    orders::Orders,
    provisioned,
    reason::{self, LOAD_TIMEOUT},
    report::release_of,
    status::Board,
    worker::{Active, Lost, Parts, Secondaries, Worker, system_time},
};
use crate::{
    engine::{Engine, EngineEvent, Entry, ModelFiles, Phase, SwapWhen, Witness},
    fetch::Cancel,
    store::{Failure, InstalledModel, Seal, Store, Verdict},
    update::Update,
};

/// How long the start waits between two looks at the engine.
const LOAD_TICK: Duration = Duration::from_millis(100);

/// How long the start waits between two looks whether the loader has handed the model over, which takes microseconds.
const HAND_OVER_TICK: Duration = Duration::from_micros(100);

/// Longest time that the confirmed model may take to load. A gigabyte takes seconds on a slow disk; beyond this something hangs, and
/// a vehicle without a model can at least say so.
const LOAD_TIME_MAX: Duration = Duration::from_secs(300);

pub(super) struct Started {
    pub(super) worker: Worker,
    pub(super) driver: Driver,
    pub(super) board: Arc<Board>,
    pub(super) orders: Arc<Orders>,
    pub(super) cancel: Cancel,
}

pub(super) fn start(config: VehicleConfig, mut callbacks: VehicleCallbacks) -> Result<Started, VehicleError> {
    config::verify_anchors(&config.anchors)?;
    provisioned::verify_provisioned(&config.provisioned)?;
    let cancel = Cancel::default();
    let link = Link::new(&config, &cancel)?;
    let (mut store, findings) = Store::open_dir(&config.store_dir)?;
    let (engine, driver) = Engine::start(config.engine.clone())?;
    let identity = config.identity.verified(engine.runtime_version())?;
    let secondaries = Secondaries::new(std::mem::take(&mut callbacks.secondaries));
    config::check_secondaries(&identity, &secondaries.identities())?;
    let key = match &config.signing_key {
        Some(key) => Arc::clone(key),
        None => key::load_or_make(&mut store)?,
    };
    let decryption_key = key::load_or_make_decryption(&mut store)?;
    let cache = check::load_cache(&store, &config.anchors, &config.provisioned.metadata)?;
    let ratchet = Ratchet::open(&store, config.provisioned.time);
    let time_s = ratchet.time(callbacks.clock.as_ref().map_or_else(system_time, |clock| clock())).seconds();
    let event = |kind, release, reason| Event { time_s, kind, release, reason };

    let board = Arc::new(Board::new(blank()));
    for finding in findings {
        tracing::info!(?finding, "the start found what an orderly end would not have left");
        board.tell(event(EventKind::Recovered(finding), None, None), |_| {});
    }
    let (active, lost) = match load_confirmed(&mut store, &engine)? {
        Confirmed::None => (None, None),
        Confirmed::Active(active) => (Some(active), None),
        Confirmed::Lost(lost, reason) => {
            tracing::error!(%reason.name, %reason.text, "the confirmed model cannot be used");
            let comes_back = store.state().confirmed().is_some().then(|| Lost::new(lost.clone(), &reason));
            board.tell(event(EventKind::ModelLost, Some(release_of(&lost.occupant)), Some(reason)), |_| {});
            (None, comes_back)
        }
    };
    let update = update_of(&store, &config, active.as_ref());
    board.change(|status| {
        status.active = active.as_ref().map(Active::model);
        status.update = update.stage();
    });
    let pulse = Arc::new(Pulse::default());
    let orders = Arc::new(Orders::default());
    let driver = Driver::new(driver, Arc::clone(&pulse));
    let parts = Parts { store, engine, link, key, decryption_key, identity, cache, active, lost, update, ratchet, secondaries };
    let worker = Worker::new(config, callbacks, parts, Arc::clone(&board), Arc::clone(&orders), pulse);
    Ok(Started { worker, driver, board, orders, cancel })
}

fn blank() -> Status {
    Status {
        update: UpdateState::Idle,
        progress_permille: 0,
        chunk_bytes: ChunkBytes::default(),
        active: None,
        candidate: None,
        reason: None,
        check_failure: None,
        checks: 0,
        clock_behind_s: 0,
        enrolled: false,
        running: true,
    }
}

/// Where the update was when the vehicle was switched off.
fn update_of(store: &Store, config: &VehicleConfig, active: Option<&Active>) -> Update {
    let state = store.state();
    match (state.pending().and_then(|slot| state.slot(slot).occupant()), active) {
        (Some(pending), _) => Update::staged(config.activation, release_of(pending)),
        (None, Some(active)) => Update::confirmed(config.activation, release_of(&active.occupant)),
        (None, None) => Update::new(config.activation),
    }
}

enum Confirmed {
    None,
    Active(Active),
    /// The engine knows it by its generation, if it got that far.
    Lost(Active, Reason),
}

/// Reads the confirmed model back, has it loaded and tested, and hands it to the driver for its first frame.
fn load_confirmed(store: &mut Store, engine: &Engine) -> Result<Confirmed, VehicleError> {
    let Some(slot) = store.state().confirmed() else {
        return Ok(Confirmed::None);
    };
    let Some(occupant) = store.state().slot(slot).occupant().cloned() else {
        return Ok(Confirmed::None);
    };
    let model = match store.load(slot) {
        Ok(model) => model,
        Err(error) => {
            let reason = reason::of_store(&error);
            if reason::is_about_content(&error) {
                // Never loaded again, and fetched again: the Director still assigns it, and the floor allows the same release.
                store.reject(slot, Failure { verdict: Verdict::Blameless, number: reason.number, name: &reason.name })?;
            }
            // Otherwise nothing is known against it: a disk or a system that fails for the moment gives it back when it is asked again.
            return Ok(Confirmed::Lost(Active { slot, occupant, generation: 0, on_trial: false }, reason));
        }
    };
    let generation = store.generation() + 1;
    engine.load(model_files(&model, generation, Entry::Confirmed))?;
    let active = Active { slot, occupant, generation, on_trial: false };
    let begun = Instant::now();
    while begun.elapsed() < LOAD_TIME_MAX {
        match engine.wait_event(LOAD_TICK) {
            Some(EngineEvent::Armed { generation: armed }) if armed == generation => {
                engine.activate(SwapWhen::Anytime)?;
                // The first step shall find the model: wait until it lies ready for it.
                while engine.status().phase == Phase::Armed && begun.elapsed() < LOAD_TIME_MAX {
                    thread::sleep(HAND_OVER_TICK);
                }
                return Ok(Confirmed::Active(active));
            }
            Some(EngineEvent::Refused { generation: refused, refusal }) if refused == generation => {
                return Ok(Confirmed::Lost(active, reason::of_refusal(&refusal)));
            }
            _ => {}
        }
    }
    let text = format!("the model was not loaded within {} s", LOAD_TIME_MAX.as_secs());
    Ok(Confirmed::Lost(active, reason::reason(LOAD_TIMEOUT, "load_timeout", text)))
}

/// A model whose every byte was read back, in the engine's terms.
pub(super) fn model_files(model: &InstalledModel, generation: u64, entry: Entry) -> ModelFiles {
    ModelFiles {
        directory: model.dir().to_owned(),
        manifest: model.manifest().clone(),
        sha256: *model.occupant().index_sha256.as_bytes(),
        generation,
        entry,
        witness: Arc::clone(model.seal()) as Arc<dyn Witness>,
    }
}

impl Witness for Seal {
    fn altered(&self) -> Option<PathBuf> {
        self.broken().map(Path::to_owned)
    }
}

impl Active {
    pub(super) fn model(&self) -> ActiveModel {
        ActiveModel {
            release: release_of(&self.occupant),
            index_sha256: self.occupant.index_sha256,
            slot: self.slot,
            generation: self.generation,
            on_trial: self.on_trial,
        }
    }
}
