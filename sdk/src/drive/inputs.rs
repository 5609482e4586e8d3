//! From frames and ego state to the model's input tensors, as the contract says.
//!
//! The contract is compiled once per model; filling then looks nothing up by name but the partner's signals, and allocates nothing.

use std::sync::Arc;

use half::{bf16, f16};
use switchback_onnx::Session;
use switchback_signing::bundle::contract::{
    CameraSource, Color, Contract, DriverField, EgoField, ElementType, Input, InputSource, Layout, RouteField, SignalSource,
};

use super::image::{Resizer, luma};
use super::{CameraFrame, ContractError, DriveInput, Faults, Found, RouteCommand, StepFault};

/// Cameras of one contract; no vehicle has more.
const CAMERAS_MAX: usize = 16;

/// Steps without an answer after which history and recurrent state are stale and start anew, as in training: zero state, and
/// the first frame in every place of the history.
const GAP_STEPS_MAX: i64 = 10;

/// Where the bytes of the input tensors lie: in a session, or in a copy for another thread.
pub(crate) trait Tensors {
    fn tensor_mut(&mut self, index: usize) -> &mut [u8];
}

impl Tensors for Session {
    fn tensor_mut(&mut self, index: usize) -> &mut [u8] {
        self.input_mut(index)
    }
}

/// How old and how far apart inputs may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputLimits {
    pub(crate) frame_age_max_ns: i64,
    pub(crate) ego_age_max_ns: i64,
    pub(crate) camera_skew_max_ns: i64,
}

/// A frame from the future by more than this is a mixed-up clock.
const FUTURE_MAX_NS: i64 = 5_000_000;

/// What filling found.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    pub(crate) found: Found,
    /// Id of the frame of the contract's first camera.
    pub(crate) frame_id: u64,
    /// Exposure of the oldest image used; the step's time when the model has no camera.
    pub(crate) exposure_ns: i64,
    /// History and recurrent state start anew with this step.
    pub(crate) restarts: bool,
}

/// The contract's inputs, compiled for one model.
#[derive(Clone, Debug)]
pub(crate) struct InputPlan {
    cameras: Vec<CameraFill>,
    values: Vec<ValueFill>,
    needs_ego: bool,
    gap_max_ns: i64,
}

/// What must be remembered between two fillings of the same tensors.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputState {
    filled_ns: Option<i64>,
    frame_ids: [Option<u64>; CAMERAS_MAX],
}

#[derive(Clone, Debug)]
struct CameraFill {
    tensor: usize,
    camera_id: u32,
    element: ElementType,
    layout: Layout,
    color: Color,
    channels: usize,
    history: usize,
    mean: [f32; 3],
    scale: [f32; 3],
    resizer: Resizer,
    width: usize,
}

#[derive(Clone, Debug)]
struct ValueFill {
    tensor: usize,
    element: ElementType,
    values: Vec<Value>,
}

#[derive(Clone, Debug)]
enum Value {
    Ego(EgoField),
    Route(RouteField),
    Driver(DriverField),
    Signal(Signal),
}

#[derive(Clone, Debug)]
struct Signal {
    /// Shared, so that a fault can name it without an allocation.
    name: Arc<str>,
    default: Option<f32>,
}

impl InputPlan {
    /// Compiles the inputs; `index` finds a tensor in the model. Types and shapes were compared with the model before.
    pub(crate) fn compile(contract: &Contract, needs_ego: bool, index: impl Fn(&str) -> usize) -> Result<Self, ContractError> {
        let (mut cameras, mut values) = (Vec::new(), Vec::new());
        let mut reads_ego = needs_ego;
        for input in &contract.inputs {
            let tensor = index(&input.tensor);
            let listed: Vec<Value> = match &input.source {
                InputSource::Camera(source) => {
                    cameras.push(CameraFill::compile(tensor, input, source)?);
                    continue;
                }
                InputSource::Ego { fields } => {
                    reads_ego = true;
                    fields.iter().copied().map(Value::Ego).collect()
                }
                InputSource::Route { fields } => fields.iter().copied().map(Value::Route).collect(),
                InputSource::Driver { fields } => fields.iter().copied().map(Value::Driver).collect(),
                InputSource::Signals { signals } => signals.iter().map(Value::signal).collect(),
            };
            values.push(ValueFill::compile(tensor, input, listed)?);
        }
        if cameras.len() > CAMERAS_MAX {
            return Err(ContractError::ValueUnfit {
                tensor: contract.inputs[0].tensor.clone(),
                what: "number of camera inputs beside that",
                found: cameras.len().to_string(),
                expected: "at most 16 are supported",
            });
        }
        let gap_max_ns = i64::from(contract.step_ms.max(1)) * 1_000_000 * GAP_STEPS_MAX;
        Ok(Self { cameras, values, needs_ego: reads_ego, gap_max_ns })
    }

    /// Fills the tensors. When the faults are [`Faults::OF_INPUT`] the tensors must not be used.
    pub(crate) fn fill(
        &mut self,
        input: &DriveInput<'_>,
        limits: &InputLimits,
        state: &mut InputState,
        tensors: &mut impl Tensors,
    ) -> Filled {
        let mut found = Found::default();
        let exposure = self.check_cameras(input, limits, state, &mut found);
        self.check_values(input, limits, &mut found);
        let restarts = state.filled_ns.is_none_or(|before| !(0..=self.gap_max_ns).contains(&input.time_ns.saturating_sub(before)));
        let unusable = found.faults.intersects(Faults::OF_INPUT);
        let filled = Filled {
            found,
            frame_id: self.cameras.first().and_then(|fill| fill.frame(input)).map_or(0, |frame| frame.frame_id),
            exposure_ns: exposure,
            restarts,
        };
        if unusable {
            return filled;
        }
        for (at, fill) in self.cameras.iter_mut().enumerate() {
            let Some(frame) = fill.frame(input) else { continue };
            let newest = if restarts {
                Newest::Everywhere
            } else if state.frame_ids[at] == Some(frame.frame_id) {
                Newest::Again
            } else {
                Newest::Shifted
            };
            fill.fill(frame, newest, tensors.tensor_mut(fill.tensor));
            state.frame_ids[at] = Some(frame.frame_id);
        }
        for fill in &self.values {
            fill.fill(input, tensors.tensor_mut(fill.tensor));
        }
        state.filled_ns = Some(input.time_ns);
        filled
    }

    fn check_values(&self, input: &DriveInput<'_>, limits: &InputLimits, found: &mut Found) {
        if self.needs_ego {
            if let Some(cause) = implausible(input) {
                found.note(Faults::EGO_INVALID, cause);
            }
            let age_max_ns = limits.ego_age_max_ns;
            if !is_recent(input.time_ns, input.ego.time_ns, age_max_ns) {
                let age_ms = milliseconds(input.time_ns.saturating_sub(input.ego.time_ns));
                let (future_max_ms, age_max_ms) = (FUTURE_MAX_NS / 1_000_000, age_max_ns / 1_000_000);
                found.note(Faults::EGO_STALE, StepFault::EgoStale { age_ms, future_max_ms, age_max_ms });
            }
        }
        for value in self.values.iter().flat_map(|fill| &fill.values) {
            match value {
                Value::Route(_) => {
                    let numbers = [("distance_m", input.route.distance_m), ("speed_limit_mps", input.route.speed_limit_mps)];
                    if let Some(&(field, number)) = numbers.iter().find(|(_, number)| !number.is_finite()) {
                        found.note(Faults::ROUTE_INVALID, StepFault::RouteInvalid { field, found: number });
                    }
                }
                Value::Signal(signal) => match signal.value(input) {
                    None => found.note(Faults::SIGNAL_MISSING, StepFault::SignalMissing { name: Arc::clone(&signal.name) }),
                    Some(number) if !number.is_finite() => {
                        found.note(Faults::SIGNAL_MISSING, StepFault::SignalInvalid { name: Arc::clone(&signal.name), found: number });
                    }
                    Some(_) => {}
                },
                Value::Ego(_) | Value::Driver(_) => {}
            }
        }
    }

    /// Checks the frames and returns the oldest exposure.
    fn check_cameras(&mut self, input: &DriveInput<'_>, limits: &InputLimits, state: &InputState, found: &mut Found) -> i64 {
        // Exposure and camera; of the same moment any.
        let (mut oldest, mut newest) = ((i64::MAX, 0), (i64::MIN, 0));
        for (at, fill) in self.cameras.iter_mut().enumerate() {
            let camera_id = fill.camera_id;
            let Some(frame) = fill.frame(input) else {
                found.note(Faults::CAMERA_MISSING, StepFault::CameraMissing { camera_id });
                continue;
            };
            if let Err(reason) = fill.resizer.accept(frame) {
                found.note(Faults::CAMERA_MISSING, StepFault::CameraUnfit { camera_id, reason });
                continue;
            }
            oldest = oldest.min((frame.exposure_ns, camera_id));
            newest = newest.max((frame.exposure_ns, camera_id));
            let age_max_ns = limits.frame_age_max_ns;
            if !is_recent(input.time_ns, frame.exposure_ns, age_max_ns) {
                let age_ms = milliseconds(input.time_ns.saturating_sub(frame.exposure_ns));
                let (future_max_ms, age_max_ms) = (FUTURE_MAX_NS / 1_000_000, age_max_ns / 1_000_000);
                found.note(Faults::CAMERA_STALE, StepFault::CameraStale { camera_id, age_ms, future_max_ms, age_max_ms });
            }
            if state.frame_ids[at] == Some(frame.frame_id) {
                found.note(Faults::CAMERA_REPEATED, StepFault::CameraRepeated { camera_id, frame_id: frame.frame_id });
            }
        }
        if oldest.0 > newest.0 {
            return input.time_ns;
        }
        let apart_ns = newest.0.saturating_sub(oldest.0);
        if apart_ns > limits.camera_skew_max_ns {
            let (apart_ms, apart_max_ms) = (milliseconds(apart_ns), limits.camera_skew_max_ns / 1_000_000);
            found.note(Faults::CAMERA_SKEW, StepFault::CameraSkew { oldest: oldest.1, newest: newest.1, apart_ms, apart_max_ms });
        }
        oldest.0
    }
}

fn is_recent(now_ns: i64, measured_ns: i64, age_max_ns: i64) -> bool {
    (-FUTURE_MAX_NS..=age_max_ns).contains(&now_ns.saturating_sub(measured_ns))
}

fn milliseconds(ns: i64) -> f32 {
    (ns as f64 * 1e-6) as f32
}

/// What of the ego state is not finite, or beyond what a road vehicle can do, with room.
fn implausible(input: &DriveInput<'_>) -> Option<StepFault> {
    let ego = &input.ego;
    [
        ("speed_mps", ego.speed_mps, 120.0),
        ("acceleration_mps2", ego.acceleration_mps2, 30.0),
        ("lateral_acceleration_mps2", ego.lateral_acceleration_mps2, 30.0),
        ("yaw_rate_radps", ego.yaw_rate_radps, 10.0),
        ("steering_rad", ego.steering_rad, 1.6),
    ]
    .into_iter()
    .find(|&(_, found, max)| found.is_nan() || found.abs() > max)
    .map(|(field, found, max)| StepFault::EgoInvalid { field, found, max })
}

impl Signal {
    fn value(&self, input: &DriveInput<'_>) -> Option<f32> {
        let supplied = input.signals.iter().find(|supplied| *supplied.name == *self.name);
        supplied.map(|supplied| supplied.value).or(self.default)
    }
}

/// Where the newest frame goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newest {
    /// The older frames move up and it takes the last place.
    Shifted,
    /// The camera delivered the frame before once more: it stays in its place.
    Again,
    /// Into every place, because there is no history.
    Everywhere,
}

impl CameraFill {
    fn compile(tensor: usize, input: &Input, source: &CameraSource) -> Result<Self, ContractError> {
        let channels = if source.color == Color::Gray { 1 } else { 3 };
        let unfit = |what, found: String, expected| ContractError::ValueUnfit { tensor: input.tensor.clone(), what, found, expected };
        let history = source.history as usize;
        if !(1..=64).contains(&history) {
            return Err(unfit("history", history.to_string(), "it must be 1 to 64"));
        }
        let (planes, height, width) = match (&input.shape[..], source.layout) {
            (&[1, planes, height, width], Layout::Nchw) | (&[1, height, width, planes], Layout::Nhwc) => (planes as usize, height, width),
            _ => (0, 0, 0),
        };
        if planes != channels * history || height == 0 || width == 0 {
            let planes = channels * history;
            return Err(ContractError::ShapeUnfit {
                tensor: input.tensor.clone(),
                meaning: "camera",
                expected: match source.layout {
                    Layout::Nchw => format!("[1, {planes}, height, width]"),
                    Layout::Nhwc => format!("[1, height, width, {planes}]"),
                },
                found: input.shape.clone(),
            });
        }
        let floating = matches!(input.dtype, ElementType::F16 | ElementType::Bf16 | ElementType::F32);
        if !floating && (input.dtype != ElementType::U8 || source.normalization.is_some()) {
            return Err(ContractError::TypeUnfit {
                tensor: input.tensor.clone(),
                meaning: "camera with this normalization",
                found: input.dtype,
            });
        }
        let (mut mean, mut scale) = ([0.0; 3], [1.0; 3]);
        if let Some(normalization) = &source.normalization {
            let per_channel = (normalization.mean.len(), normalization.std.len()) == (channels, channels);
            let usable = normalization.mean.iter().all(|mean| mean.is_finite()) && normalization.std.iter().all(|std| std.is_normal());
            if !per_channel || !usable {
                return Err(unfit(
                    "normalization",
                    format!("{normalization:?}"),
                    "it needs one finite mean and one std other than 0 per channel",
                ));
            }
            mean[..channels].copy_from_slice(&normalization.mean);
            scale.iter_mut().zip(&normalization.std).for_each(|(scale, std)| *scale = 1.0 / std);
        }
        Ok(Self {
            tensor,
            camera_id: source.camera_id,
            element: input.dtype,
            layout: source.layout,
            color: source.color,
            channels,
            history,
            mean,
            scale,
            resizer: Resizer::new(width as usize, height as usize),
            width: width as usize,
        })
    }

    fn frame<'a>(&self, input: &DriveInput<'a>) -> Option<&'a CameraFrame<'a>> {
        input.cameras.iter().find(|frame| frame.camera_id == self.camera_id)
    }

    fn fill(&mut self, frame: &CameraFrame<'_>, newest: Newest, tensor: &mut [u8]) {
        if newest == Newest::Shifted {
            self.shift(tensor);
        }
        let (mean, scale) = (self.mean, self.scale);
        let normalized = move |value: f32, channel: usize| (value - mean[channel]) * scale[channel];
        match self.element {
            // `as` saturates, and half is added because it cuts.
            ElementType::U8 => self.write(frame, newest, tensor, |value, _| [(value + 0.5) as u8]),
            ElementType::F32 => self.write(frame, newest, tensor, |value, channel| normalized(value, channel).to_ne_bytes()),
            ElementType::F16 => self.write(frame, newest, tensor, |value, channel| f16::from_f32(normalized(value, channel)).to_ne_bytes()),
            ElementType::Bf16 => {
                self.write(frame, newest, tensor, |value, channel| bf16::from_f32(normalized(value, channel)).to_ne_bytes());
            }
            // Refused by `compile`.
            ElementType::I32 | ElementType::I64 => {}
        }
    }

    /// Moves every frame of the history one place towards the oldest.
    fn shift(&self, tensor: &mut [u8]) {
        if self.history == 1 {
            return;
        }
        let cells = match self.layout {
            Layout::Nchw => 1,
            Layout::Nhwc => self.width * self.resizer.height(),
        };
        let cell = tensor.len() / cells;
        let one = cell / self.history;
        tensor.chunks_exact_mut(cell).for_each(|cell| cell.copy_within(one.., 0));
    }

    fn write<const B: usize>(
        &mut self,
        frame: &CameraFrame<'_>,
        newest: Newest,
        tensor: &mut [u8],
        encode: impl Fn(f32, usize) -> [u8; B],
    ) {
        let places = if newest == Newest::Everywhere { 0..self.history } else { self.history - 1..self.history };
        let (width, height, channels, all) = (self.width, self.resizer.height(), self.channels, self.channels * self.history);
        let order = match self.color {
            Color::Rgb | Color::Gray => [0, 1, 2],
            Color::Bgr => [2, 1, 0],
        };
        for y in 0..height {
            let line = self.resizer.line(frame, y);
            if self.color == Color::Gray {
                line.chunks_exact_mut(3).for_each(|pixel| pixel[0] = luma(pixel));
            }
            for place in places.clone() {
                match self.layout {
                    Layout::Nchw => {
                        for channel in 0..channels {
                            let start = ((place * channels + channel) * height + y) * width;
                            let row = &mut tensor[start * B..(start + width) * B];
                            for (to, pixel) in row.chunks_exact_mut(B).zip(line.chunks_exact(3)) {
                                to.copy_from_slice(&encode(pixel[order[channel]], channel));
                            }
                        }
                    }
                    Layout::Nhwc => {
                        let row = &mut tensor[y * width * all * B..(y + 1) * width * all * B];
                        for (cell, pixel) in row.chunks_exact_mut(all * B).zip(line.chunks_exact(3)) {
                            let to = cell[place * channels * B..].chunks_exact_mut(B);
                            for (channel, to) in to.take(channels).enumerate() {
                                to.copy_from_slice(&encode(pixel[order[channel]], channel));
                            }
                        }
                    }
                }
            }
        }
    }
}

impl ValueFill {
    fn compile(tensor: usize, input: &Input, values: Vec<Value>) -> Result<Self, ContractError> {
        let meaning = match &input.source {
            InputSource::Camera(_) => "camera",
            InputSource::Ego { .. } => "ego fields",
            InputSource::Route { .. } => "route fields",
            InputSource::Driver { .. } => "driver fields",
            InputSource::Signals { .. } => "signals",
        };
        let elements: u64 = input.shape.iter().map(|&dimension| u64::from(dimension)).product();
        if elements != values.len() as u64 {
            return Err(ContractError::ShapeUnfit {
                tensor: input.tensor.clone(),
                meaning,
                expected: format!("[1, {}]", values.len()),
                found: input.shape.clone(),
            });
        }
        if input.dtype == ElementType::U8 {
            return Err(ContractError::TypeUnfit { tensor: input.tensor.clone(), meaning, found: input.dtype });
        }
        Ok(Self { tensor, element: input.dtype, values })
    }

    fn fill(&self, input: &DriveInput<'_>, tensor: &mut [u8]) {
        let values = self.values.iter().map(|value| value.of(input));
        match self.element {
            ElementType::F32 => encode_all(tensor, values, f32::to_ne_bytes),
            ElementType::F16 => encode_all(tensor, values, |value| f16::from_f32(value).to_ne_bytes()),
            ElementType::Bf16 => encode_all(tensor, values, |value| bf16::from_f32(value).to_ne_bytes()),
            ElementType::I32 => encode_all(tensor, values, |value| (value as i32).to_ne_bytes()),
            ElementType::I64 => encode_all(tensor, values, |value| (value as i64).to_ne_bytes()),
            // Refused by `compile`.
            ElementType::U8 => {}
        }
    }
}

fn encode_all<const B: usize>(tensor: &mut [u8], values: impl Iterator<Item = f32>, encode: impl Fn(f32) -> [u8; B]) {
    tensor.chunks_exact_mut(B).zip(values).for_each(|(to, value)| to.copy_from_slice(&encode(value)));
}

impl Value {
    fn signal(source: &SignalSource) -> Self {
        Self::Signal(Signal { name: source.name.as_str().into(), default: source.default })
    }

    fn of(&self, input: &DriveInput<'_>) -> f32 {
        let flag = |set: bool| f32::from(u8::from(set));
        match self {
            Self::Ego(field) => match field {
                EgoField::SpeedMps => input.ego.speed_mps,
                EgoField::AccelerationMps2 => input.ego.acceleration_mps2,
                EgoField::LateralAccelerationMps2 => input.ego.lateral_acceleration_mps2,
                EgoField::YawRateRadps => input.ego.yaw_rate_radps,
                EgoField::SteeringRad => input.ego.steering_rad,
            },
            Self::Route(field) => match field {
                RouteField::Follow => flag(input.route.command == RouteCommand::Follow),
                RouteField::Left => flag(input.route.command == RouteCommand::Left),
                RouteField::Right => flag(input.route.command == RouteCommand::Right),
                RouteField::Straight => flag(input.route.command == RouteCommand::Straight),
                RouteField::Stop => flag(input.route.command == RouteCommand::Stop),
                RouteField::DistanceM => input.route.distance_m,
                RouteField::SpeedLimitMps => input.route.speed_limit_mps,
            },
            // What is not known of the driver counts as absent: neither hands on the wheel nor eyes on the road.
            Self::Driver(field) => match field {
                DriverField::HandsOnWheel => flag(input.driver.hands_on_wheel == Some(true)),
                DriverField::EyesOnRoad => flag(input.driver.eyes_on_road == Some(true)),
                DriverField::AttentiveProbability => input.driver.attentive_probability.filter(|p| p.is_finite()).unwrap_or(0.0),
            },
            // Missing signals are a fault, found before anything is filled.
            Self::Signal(signal) => signal.value(input).unwrap_or(0.0),
        }
    }
}
