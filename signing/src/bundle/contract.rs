//! The model contract: what a driving model expects and promises, in the field's terms.
//!
//! The vehicle runs any model that states its contract; no model is built in. Axes follow ISO 8855 (x forward, y left, z up, origin
//! at the middle of the rear axle on the ground), units are SI.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{error::BundleError, json};

pub mod limits;
mod validate;

/// The contract version that this release of Switchback writes and reads.
pub const CONTRACT_VERSION: u32 = 1;

/// What a model expects and promises.
///
/// Written by whoever trained the model as `contract.json`; copied into the bundle's manifest by `switchback pack`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Version of this structure; [`CONTRACT_VERSION`] is the only one known here.
    pub contract_version: u32,
    /// The kind of machine that the model drives.
    pub platform: Platform,
    /// Every input tensor of the graph, each exactly once. Recurrent inputs are listed in `recurrent` instead.
    pub inputs: Vec<Input>,
    /// Every output tensor that the vehicle reads. Outputs of the graph that are not listed are ignored.
    pub outputs: Vec<Output>,
    /// Pairs of tensors that carry the model's state from one step to the next. Zero before the first step.
    #[serde(default)]
    pub recurrent: Vec<Recurrent>,
    /// Driving features that the model can serve, such as `lcc` (lane centering control), `ngp_city` or `gesture_stop`.
    #[serde(default)]
    pub features: Vec<String>,
    /// ONNX Runtime versions that the model runs on.
    pub runtime: RuntimeRange,
    /// Memory that one session needs at its peak, MiB. Checked against the vehicle's budget before the model is loaded.
    pub memory_mib: u32,
    /// Longest time from a frame's exposure to the output that the model's author allows for one step, milliseconds.
    pub deadline_ms: u32,
    /// Time between two steps that the model was trained for, milliseconds (50 at 20 Hz).
    pub step_ms: u32,
    /// Limits that every output must keep. Required for a road vehicle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Envelope>,
    /// Confidence below which a takeover is requested, 0 to 1.
    #[serde(default)]
    pub confidence_min: f32,
    /// What the self-test and the shadow run of this model must keep to.
    pub acceptance: Acceptance,
}

/// The kind of machine that a model drives, which decides what its outputs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Trajectory and control in ISO 8855 axes.
    RoadVehicle,
    /// A named action vector; the envelope of a road vehicle does not apply.
    Other,
}

/// One input tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the tensor in the ONNX graph.
    pub tensor: String,
    /// Element type of the tensor.
    pub dtype: ElementType,
    /// Static shape of the tensor.
    pub shape: Vec<u32>,
    /// Where its values come from.
    pub source: InputSource,
}

/// Where the values of an input tensor come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InputSource {
    /// Pixels of one camera, resized to the tensor's height and width.
    Camera(CameraSource),
    /// The vehicle's own motion: the tensor's last dimension holds these fields in this order.
    Ego {
        /// Fields in the order of the tensor's elements.
        fields: Vec<EgoField>,
    },
    /// The navigation command and its surroundings.
    Route {
        /// Fields in the order of the tensor's elements.
        fields: Vec<RouteField>,
    },
    /// What is known of the driver.
    Driver {
        /// Fields in the order of the tensor's elements.
        fields: Vec<DriverField>,
    },
    /// Floats that the partner's software supplies by name, such as `lidar_front_distance_m`.
    Signals {
        /// Signals in the order of the tensor's elements.
        signals: Vec<SignalSource>,
    },
}

/// How a camera's pixels become a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSource {
    /// Camera id as the vehicle numbers them; 0 is the front camera.
    pub camera_id: u32,
    /// Order of the tensor's dimensions.
    pub layout: Layout,
    /// Order of the color channels.
    pub color: Color,
    /// `(pixel - mean) / std` per channel, on pixels 0 to 255. Absent: raw values. Only for floating-point tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalization: Option<Normalization>,
    /// Number of frames in the tensor, oldest first, stacked along the channel dimension. 1 is the newest frame alone.
    #[serde(default = "one")]
    pub history: u32,
}

/// Order of an image tensor's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Batch, channel, height, width.
    Nchw,
    /// Batch, height, width, channel.
    Nhwc,
}

/// Order of an image tensor's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Gray,
}

/// Per-channel affine map of pixel values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Subtracted from each channel, in units of a pixel value 0 to 255.
    pub mean: Vec<f32>,
    /// Each channel is divided by this, in units of a pixel value 0 to 255. Not zero.
    pub std: Vec<f32>,
}

/// A field of the vehicle's own motion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgoField {
    /// Longitudinal speed, m/s.
    SpeedMps,
    /// Longitudinal acceleration, m/s2.
    AccelerationMps2,
    /// Lateral acceleration, m/s2, left positive.
    LateralAccelerationMps2,
    /// Yaw rate, rad/s, left positive.
    YawRateRadps,
    /// Road-wheel angle, rad, left positive.
    SteeringRad,
}

/// A field of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteField {
    /// 1 when the command is to follow the lane.
    Follow,
    /// 1 when the command is to turn or bear left.
    Left,
    /// 1 when the command is to turn or bear right.
    Right,
    /// 1 when the command is to go straight on at a junction.
    Straight,
    /// 1 when the command is to stop at the destination.
    Stop,
    /// Distance to where the command applies, m.
    DistanceM,
    /// Speed limit, m/s.
    SpeedLimitMps,
}

/// A field of the driver's state (names after COVESA VSS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverField {
    /// 1 when hands are on the wheel.
    HandsOnWheel,
    /// 1 when eyes are on the road.
    EyesOnRoad,
    /// Probability that the driver attends, 0 to 1.
    AttentiveProbability,
}

/// A float that the partner's software supplies by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalSource {
    /// Name of the signal; at most 64 bytes.
    pub name: String,
    /// Value used when the caller does not supply the signal. Absent: the signal is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<f32>,
}

/// One output tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Name of the tensor in the ONNX graph.
    pub tensor: String,
    /// Element type of the tensor.
    pub dtype: ElementType,
    /// Static shape of the tensor.
    pub shape: Vec<u32>,
    /// What its values mean.
    pub meaning: OutputMeaning,
}

/// What the values of an output tensor mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputMeaning {
    /// Points of the planned path, shape `[1, points, fields]`; point `k` is at `(k + 1) * step_s` after the frame.
    Trajectory {
        /// Time between two points, s.
        step_s: f32,
        /// Fields in the order of the last dimension.
        fields: Vec<TrajectoryField>,
    },
    /// What to do now, shape `[1, fields]`.
    Control {
        /// Fields in the order of the last dimension.
        fields: Vec<ControlField>,
    },
    /// The model's own probability that its plan is good, shape `[1, 1]`, 0 to 1.
    Confidence,
    /// Probabilities over what the model intends to do, shape `[1, classes]`.
    Intent {
        /// Classes in the order of the last dimension.
        classes: Vec<Intent>,
    },
    /// Tokens of the model's own words, shape `[1, tokens]`; element type `i64` or `i32`. Shown, never acted on.
    Language {
        /// Word of each token number.
        vocabulary: Vec<String>,
    },
    /// Named actions of a platform that is no road vehicle, shape `[1, actions]`.
    Actions {
        /// Actions in the order of the last dimension.
        actions: Vec<Action>,
    },
}

/// A field of a trajectory point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrajectoryField {
    /// Forward, m.
    XM,
    /// Left, m.
    YM,
    /// Heading relative to the vehicle now, rad, left positive.
    HeadingRad,
    /// Speed, m/s.
    SpeedMps,
    /// Standard deviation of `x_m`, m.
    XStdM,
    /// Standard deviation of `y_m`, m.
    YStdM,
}

/// A field of the control output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlField {
    /// Path curvature, 1/m, left positive.
    #[serde(rename = "curvature_1pm")]
    Curvature1pm,
    /// Longitudinal acceleration, m/s2.
    AccelerationMps2,
}

/// What a model intends to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Keep the lane at the desired speed.
    KeepLane,
    /// Follow a vehicle ahead.
    Follow,
    /// Slow down or stop for somebody or something on the road.
    Yield,
    /// Stop because a person signals so.
    GestureStop,
    /// Change to the left lane or turn left.
    Left,
    /// Change to the right lane or turn right.
    Right,
    /// Standing still.
    Standstill,
}

/// One action of a platform that is no road vehicle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Name of the action, such as `gripper`.
    pub name: String,
    /// Smallest legal value.
    pub min: f32,
    /// Largest legal value.
    pub max: f32,
}

/// A pair of tensors that carries state from one step to the next. Both have the same element type and shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// Input tensor that receives the state.
    pub input: String,
    /// Output tensor that produces the next state.
    pub output: String,
    /// Element type of both.
    pub dtype: ElementType,
    /// Static shape of both.
    pub shape: Vec<u32>,
}

/// Element type of a tensor, by its ONNX meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementType {
    /// 8-bit unsigned integer.
    U8,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 single precision.
    F32,
}

/// ONNX Runtime versions that a model runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeRange {
    /// Smallest version, such as `1.23`.
    pub onnxruntime_min: String,
    /// Version from which on the model is not known to run. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnxruntime_below: Option<String>,
}

/// Limits that every output of a road vehicle must keep; an output outside is a fault of the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Strongest acceleration, m/s2.
    pub acceleration_max_mps2: f32,
    /// Strongest braking as a positive number, m/s2.
    pub deceleration_max_mps2: f32,
    /// Largest lateral acceleration, curvature times speed squared, m/s2.
    pub lateral_acceleration_max_mps2: f32,
    /// Largest path curvature, 1/m.
    pub curvature_max_1pm: f32,
    /// Largest change of the acceleration over time, m/s3.
    pub jerk_max_mps3: f32,
    /// Highest speed of any trajectory point, m/s.
    pub speed_max_mps: f32,
}

/// What the self-test and the shadow run must keep to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Largest absolute difference to a golden output, by tensor name; `default_tolerance` for the others.
    #[serde(default, deserialize_with = "json::distinct_keys")]
    pub tolerance: BTreeMap<String, f32>,
    /// Largest absolute difference to a golden output where `tolerance` does not name the tensor.
    pub default_tolerance: f32,
    /// Live frames that the model must pass in shadow before it may drive.
    pub shadow_frames: u32,
    /// Largest lateral distance between its plan and the active one, m; where it has gone on for 1 s and for 10 m, or ends.
    pub shadow_lateral_max_m: f32,
    /// Healthy frames of the trial after the swap, in which the previous model stays warm; at least 1. Frames in standby count as well.
    pub trial_frames: u32,
}

fn one() -> u32 {
    1
}

impl Contract {
    /// Reads a contract on its own, as whoever trained the model wrote it (`contract.json`), strictly.
    ///
    /// # Errors
    /// `ContractVersion`, `ContractJson` or `Contract`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        /// Enough of a contract to say which version it has.
        #[derive(Deserialize)]
        struct Version {
            contract_version: u32,
        }
        let json_error = |error: serde_json::Error| BundleError::ContractJson { reason: error.to_string() };
        if bytes.len() > limits::CONTRACT_LENGTH_MAX {
            let reason = format!("it is {} bytes long, allowed are {}", bytes.len(), limits::CONTRACT_LENGTH_MAX);
            return Err(BundleError::ContractJson { reason });
        }
        // The version first: a later one may have other fields, and then its number is what the reader needs to hear.
        let version: Version = serde_json::from_slice(bytes).map_err(json_error)?;
        Self::check_version(version.contract_version)?;
        let contract: Self = serde_json::from_slice(bytes).map_err(json_error)?;
        contract.validate()?;
        Ok(contract)
    }

    pub(super) fn check_version(found: u32) -> Result<(), BundleError> {
        if found == CONTRACT_VERSION { Ok(()) } else { Err(BundleError::ContractVersion { found, known: CONTRACT_VERSION }) }
    }

    /// Names of the tensors that the graph must take, in the contract's order: inputs, then recurrent inputs.
    pub fn input_tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        let inputs = self.inputs.iter().map(|input| Tensor { name: &input.tensor, dtype: input.dtype, shape: &input.shape });
        let states = self.recurrent.iter().map(|state| Tensor { name: &state.input, dtype: state.dtype, shape: &state.shape });
        inputs.chain(states)
    }

    /// Names of the tensors that the graph must give, in the contract's order: outputs, then recurrent outputs.
    pub fn output_tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        let outputs = self.outputs.iter().map(|output| Tensor { name: &output.tensor, dtype: output.dtype, shape: &output.shape });
        let states = self.recurrent.iter().map(|state| Tensor { name: &state.output, dtype: state.dtype, shape: &state.shape });
        outputs.chain(states)
    }

    /// Largest absolute difference to a golden output of this tensor.
    pub fn tolerance(&self, tensor: &str) -> f32 {
        self.acceptance.tolerance.get(tensor).copied().unwrap_or(self.acceptance.default_tolerance)
    }
}

/// What the contract says about one tensor of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    /// Name in the graph.
    pub name: &'a str,
    /// Element type.
    pub dtype: ElementType,
    /// Static shape.
    pub shape: &'a [u32],
}

impl Tensor<'_> {
    /// Number of elements; the contract's limits keep it far from overflow.
    pub fn elements(&self) -> usize {
        self.shape.iter().map(|&dimension| dimension as usize).product()
    }
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 => 8,
        }
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        match self {
            Self::F16 | Self::Bf16 | Self::F32 => true,
            Self::U8 | Self::I32 | Self::I64 => false,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        })
    }
}
