//! Golden inputs and outputs: what every vehicle repeats before the model may drive.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use switchback_signing::bundle::{
    Contract,
    contract::{CameraSource, Color, DriverField, EgoField, ElementType, Input, InputSource, Layout, RouteField, Tensor},
    manifest::SELF_TEST_CASES_MAX,
};

use crate::files;

/// Longest file of golden values, bytes; a vehicle reads no longer one.
const GOLDEN_BYTES_MAX: usize = 256 << 20;

/// Where the pseudo-random inputs begin. Any constant will do; it must only never change, so that a bundle can be packed again.
const SEED: u64 = 0x5377_6974_6368_6261;

/// The tensors of one run, in the contract's order.
pub(super) struct Case {
    pub(super) tensors: Vec<Vec<u8>>,
}

/// Recorded runs.
pub(super) struct Golden {
    pub(super) cases: u32,
    pub(super) inputs: Vec<u8>,
    pub(super) outputs: Vec<u8>,
    pub(super) slowest_run: Duration,
}

/// Reads recorded inputs: safetensors with the names `CASE/TENSOR`, cases numbered from 0.
pub(super) fn recorded(path: &Path, contract: &Contract) -> anyhow::Result<Vec<Case>> {
    let bytes = files::read(path, GOLDEN_BYTES_MAX)?;
    let tensors = SafeTensors::deserialize(&bytes).context("it is no safetensors file")?;
    let mut cases = Vec::new();
    let mut used = 0;
    while tensors.names().iter().any(|name| name.split_once('/').is_some_and(|(case, _)| case == cases.len().to_string())) {
        let number = cases.len();
        let case = contract.inputs.iter().map(|input| recorded_tensor(&tensors, number, input)).collect::<anyhow::Result<Vec<_>>>()?;
        used += case.len();
        cases.push(Case { tensors: case });
    }
    if cases.is_empty() {
        bail!("it has no case 0; tensors are named CASE/TENSOR, such as 0/{}", contract.inputs[0].tensor);
    }
    if cases.len() > SELF_TEST_CASES_MAX as usize {
        bail!("it has {} cases, at most {SELF_TEST_CASES_MAX} are allowed", cases.len());
    }
    if used != tensors.len() {
        let known = |name: &str| {
            let Some((case, tensor)) = name.split_once('/') else { return false };
            case.parse().is_ok_and(|case: usize| case < cases.len()) && contract.inputs.iter().any(|input| input.tensor == tensor)
        };
        let names = tensors.names();
        let stranger = names.iter().find(|name| !known(name)).map_or("", |name| name);
        bail!("the tensor {stranger:?} belongs to no case of the contract's inputs (recurrent state begins at zero and is not recorded)");
    }
    Ok(cases)
}

fn recorded_tensor(tensors: &SafeTensors<'_>, case: usize, input: &Input) -> anyhow::Result<Vec<u8>> {
    let name = format!("{case}/{}", input.tensor);
    let tensor = tensors.tensor(&name).with_context(|| format!("the tensor {name:?} is missing"))?;
    let shape: Vec<usize> = input.shape.iter().map(|&dimension| dimension as usize).collect();
    if tensor.dtype() != dtype(input.dtype) || tensor.shape() != shape {
        bail!("{name:?} is {:?} {:?}, the contract says {} {shape:?}", tensor.dtype(), tensor.shape(), input.dtype);
    }
    Ok(tensor.data().to_vec())
}

/// Inputs that look like a drive as far as a contract tells; the same for the same contract.
pub(super) fn pseudo_random(contract: &Contract, cases: u32) -> Vec<Case> {
    let mut random = Random(SEED);
    let mut case = || Case { tensors: contract.inputs.iter().map(|input| encode(input.dtype, &values(input, &mut random))).collect() };
    (0..cases).map(|_| case()).collect()
}

fn values(input: &Input, random: &mut Random) -> Vec<f32> {
    let count = input.shape.iter().map(|&dimension| dimension as usize).product();
    match &input.source {
        InputSource::Camera(camera) => pixels(input, camera, count, random),
        InputSource::Ego { fields } => fields.iter().map(|&field| ego(field, random)).collect(),
        InputSource::Route { fields } => route(fields, random),
        InputSource::Driver { fields } => fields.iter().map(|&field| driver(field, random)).collect(),
        InputSource::Signals { signals } => {
            signals.iter().map(|signal| signal.default.unwrap_or_else(|| random.between(0.0, 1.0))).collect()
        }
    }
}

fn pixels(input: &Input, camera: &CameraSource, count: usize, random: &mut Random) -> Vec<f32> {
    let colors = match camera.color {
        Color::Rgb | Color::Bgr => 3,
        Color::Gray => 1,
    };
    // The dimensions behind the channel; with NHWC there are none.
    let behind: usize = match camera.layout {
        Layout::Nchw => input.shape[2..].iter().map(|&dimension| dimension as usize).product(),
        Layout::Nhwc => 1,
    };
    let channels = colors * camera.history as usize;
    let pixel = |position: usize| {
        let value = f32::from(random.byte());
        let channel = position / behind % channels % colors;
        camera.normalization.as_ref().map_or(value, |map| (value - map.mean[channel]) / map.std[channel])
    };
    (0..count).map(pixel).collect()
}

fn ego(field: EgoField, random: &mut Random) -> f32 {
    match field {
        EgoField::SpeedMps => random.between(0.0, 25.0),
        EgoField::AccelerationMps2 | EgoField::LateralAccelerationMps2 => random.between(-2.0, 2.0),
        EgoField::YawRateRadps => random.between(-0.3, 0.3),
        EgoField::SteeringRad => random.between(-0.2, 0.2),
    }
}

/// One command at a time.
fn route(fields: &[RouteField], random: &mut Random) -> Vec<f32> {
    let is_command = |field: &RouteField| match field {
        RouteField::Follow | RouteField::Left | RouteField::Right | RouteField::Straight | RouteField::Stop => true,
        RouteField::DistanceM | RouteField::SpeedLimitMps => false,
    };
    let commands = fields.iter().filter(|field| is_command(field)).count().max(1);
    let chosen = random.byte() as usize % commands;
    let mut command = 0;
    let mut value = |field: &RouteField| match field {
        RouteField::DistanceM => random.between(0.0, 200.0),
        RouteField::SpeedLimitMps => random.between(8.0, 30.0),
        RouteField::Follow | RouteField::Left | RouteField::Right | RouteField::Straight | RouteField::Stop => {
            command += 1;
            f32::from(u8::from(command - 1 == chosen))
        }
    };
    fields.iter().map(&mut value).collect()
}

fn driver(field: DriverField, random: &mut Random) -> f32 {
    match field {
        DriverField::HandsOnWheel | DriverField::EyesOnRoad => f32::from(random.byte() & 1),
        DriverField::AttentiveProbability => random.between(0.0, 1.0),
    }
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    }

    fn between(&mut self, least: f32, most: f32) -> f32 {
        least + (most - least) * f32::from(self.byte()) / 255.0
    }
}

fn encode(dtype: ElementType, values: &[f32]) -> Vec<u8> {
    match dtype {
        // Pixels are whole and in range; other integers do not occur among inputs.
        ElementType::U8 => values.iter().map(|&value| value as u8).collect(),
        ElementType::I32 => values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect(),
        ElementType::I64 => values.iter().flat_map(|&value| (value as i64).to_le_bytes()).collect(),
        ElementType::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        ElementType::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        ElementType::F32 => values.iter().flat_map(|&value| value.to_le_bytes()).collect(),
    }
}

/// Element `element` of a tensor in memory.
pub(super) fn value_at(dtype: ElementType, bytes: &[u8], element: usize) -> f64 {
    fn field<const N: usize>(bytes: &[u8], element: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&bytes[element * N..][..N]);
        field
    }
    match dtype {
        ElementType::U8 => bytes[element].into(),
        ElementType::I32 => i32::from_le_bytes(field(bytes, element)).into(),
        // Beyond 2^53 a neighbor is returned; whether it is finite is all that is asked.
        ElementType::I64 => i64::from_le_bytes(field(bytes, element)) as f64,
        ElementType::F16 => f16::from_le_bytes(field(bytes, element)).into(),
        ElementType::Bf16 => bf16::from_le_bytes(field(bytes, element)).into(),
        ElementType::F32 => f32::from_le_bytes(field(bytes, element)).into(),
    }
}

/// Writes cases as safetensors with the names `CASE/TENSOR`.
pub(super) fn safetensors(tensors: &[Tensor<'_>], cases: &[Case]) -> anyhow::Result<Vec<u8>> {
    let mut views = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for (tensor, bytes) in tensors.iter().zip(&case.tensors) {
            let shape = tensor.shape.iter().map(|&dimension| dimension as usize).collect();
            views.push((format!("{number}/{}", tensor.name), TensorView::new(dtype(tensor.dtype), shape, bytes)?));
        }
    }
    let bytes = safetensors::serialize(views, None)?;
    if bytes.len() > GOLDEN_BYTES_MAX {
        bail!("the self-test's values take {} bytes, a vehicle reads at most {GOLDEN_BYTES_MAX}; record fewer cases", bytes.len());
    }
    Ok(bytes)
}

fn dtype(element: ElementType) -> Dtype {
    match element {
        ElementType::U8 => Dtype::U8,
        ElementType::I32 => Dtype::I32,
        ElementType::I64 => Dtype::I64,
        ElementType::F16 => Dtype::F16,
        ElementType::Bf16 => Dtype::BF16,
        ElementType::F32 => Dtype::F32,
    }
}
