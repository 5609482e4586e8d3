//! The driving side of a vehicle, and what it counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    drive::{DriveInput, DriveOutput, Faults, MinimalRisk, Mode, StepFault, TakeoverLevel},
    engine,
    update::VehicleState,
};

/// The stepping handle: one thread, one call per frame.
///
/// Dropping it frees the models it holds on the spot; do that when the vehicle no longer drives.
#[derive(Debug)]
pub struct Driver {
    inner: engine::Driver,
    pulse: Arc<Pulse>,
}

impl Driver {
    pub(super) fn new(inner: engine::Driver, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse }
    }

    /// Answers one frame. `output` is written whole, whatever happens; act on it only when `control_valid` and until `valid_until_ns`.
    ///
    /// Blocks while the model runs (twice in the one step in which a model on trial fails). Takes no lock, allocates and frees nothing
    /// of ours.
    pub fn step(&mut self, input: &DriveInput<'_>, output: &mut DriveOutput) {
        self.pulse.begin(input);
        self.inner.step(input, output);
        self.pulse.count(output);
    }

    /// What was wrong in the last step, as [`engine::Driver::fault`].
    pub fn fault(&self) -> Option<&StepFault> {
        self.inner.fault()
    }

    /// Words of the last answer, when the model has any. Shown, never acted on.
    pub fn language(&self) -> impl Iterator<Item = &str> {
        self.inner.language()
    }
}

/// Time without a frame after which none arrive any more. At 20 Hz it is ten frames: a machine that stalls for less is no parked vehicle.
const FRAMES_STOP_AFTER: Duration = Duration::from_millis(500);

/// Whether frames arrive, as the update thread sees it. The driving thread only counts its steps: the time would cost it a look at a clock.
#[derive(Debug, Default)]
pub(super) struct Frames {
    steps: u64,
    seen: Option<Instant>,
}

impl Frames {
    pub(super) fn arrive(&mut self, pulse: &Pulse) -> bool {
        let steps = pulse.steps.load(Ordering::Relaxed);
        if steps != self.steps {
            (self.steps, self.seen) = (steps, Some(Instant::now()));
        }
        self.seen.is_some_and(|seen| seen.elapsed() < FRAMES_STOP_AFTER)
    }
}

/// What the driving thread leaves for the update thread: the vehicle's state, and counters since the start. Written by one thread
/// with plain stores.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    engaged: AtomicBool,
    speed_mps: AtomicU32,
    steps: AtomicU64,
    engaged_steps: AtomicU64,
    invalid_steps: AtomicU64,
    deadline_misses: AtomicU64,
    input_faults: AtomicU64,
    model_faults: AtomicU64,
    takeover_requests: AtomicU64,
    minimal_risk_requests: AtomicU64,
    swaps: AtomicU64,
    fall_backs: AtomicU64,
}

impl Pulse {
    fn begin(&self, input: &DriveInput<'_>) {
        // Before the step, so that a swap that is decided meanwhile knows the newest mode.
        self.engaged.store(input.requested_mode == Mode::Engaged, Ordering::Relaxed);
        self.speed_mps.store(input.ego.speed_mps.to_bits(), Ordering::Relaxed);
        raise(&self.steps, true);
        raise(&self.engaged_steps, input.requested_mode == Mode::Engaged);
    }

    fn count(&self, output: &DriveOutput) {
        raise(&self.invalid_steps, !output.control_valid);
        raise(&self.deadline_misses, output.faults.contains(Faults::DEADLINE_MISSED));
        raise(&self.input_faults, output.faults.intersects(Faults::OF_INPUT));
        raise(&self.model_faults, output.faults.intersects(Faults::OF_MODEL));
        raise(&self.takeover_requests, output.takeover.level >= TakeoverLevel::Request);
        raise(&self.minimal_risk_requests, output.minimal_risk != MinimalRisk::None);
        raise(&self.swaps, output.swapped);
        raise(&self.fall_backs, output.fell_back);
    }

    /// What the steps tell of the vehicle. Before the first one nothing is known.
    pub(super) fn vehicle_state(&self) -> VehicleState {
        if self.steps.load(Ordering::Relaxed) == 0 {
            return VehicleState::default();
        }
        VehicleState {
            speed_mps: Some(f32::from_bits(self.speed_mps.load(Ordering::Relaxed))),
            engaged: Some(self.engaged.load(Ordering::Relaxed)),
            ..VehicleState::default()
        }
    }

    /// Counters by the names of the report.
    pub(super) fn counters(&self) -> [(&'static str, u64); 10] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("steps", value(&self.steps)),
            ("engaged_steps", value(&self.engaged_steps)),
            ("invalid_steps", value(&self.invalid_steps)),
            ("deadline_misses", value(&self.deadline_misses)),
            ("input_faults", value(&self.input_faults)),
            ("model_faults", value(&self.model_faults)),
            ("takeover_requests", value(&self.takeover_requests)),
            ("minimal_risk_requests", value(&self.minimal_risk_requests)),
            ("swaps", value(&self.swaps)),
            ("fall_backs", value(&self.fall_backs)),
        ]
    }
}

/// Adds one without a locked instruction: nobody else writes.
fn raise(counter: &AtomicU64, happened: bool) {
    if happened {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}
