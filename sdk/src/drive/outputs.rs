//! From the model's output tensors to the driving output, as the contract says.

use half::{bf16, f16};
use switchback_onnx::Session;
use switchback_signing::bundle::contract::{Contract, ControlField, ElementType, Intent, Output, OutputMeaning, Platform, TrajectoryField};

use super::path::Stated;
use super::{ACTIONS_MAX, ContractError, DriveOutput, Faults, Found, IntentCode, StepFault, TRAJECTORY_POINTS_MAX, TrajectoryPoint};

/// The contract's outputs, compiled for one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutputPlan {
    trajectory: Option<Trajectory>,
    control: Option<(Tensor, Vec<ControlField>)>,
    confidence: Option<Tensor>,
    intent: Option<(Tensor, Vec<IntentCode>)>,
    actions: Option<(Tensor, Vec<Range>)>,
    language: Option<(Tensor, Vec<String>)>,
    /// Floating-point state that the next step starts from; not finite once means not finite for ever.
    states: Vec<Tensor>,
}

#[derive(Clone, Copy, Debug)]
struct Tensor {
    index: usize,
    element: ElementType,
}

#[derive(Clone, Debug)]
struct Trajectory {
    tensor: Tensor,
    points: usize,
    step_s: f32,
    fields: Vec<TrajectoryField>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    min: f32,
    max: f32,
}

impl OutputPlan {
    /// Compiles the outputs; `index` finds a tensor in the model. Types and shapes were compared with the model before.
    pub(crate) fn compile(contract: &Contract, index: impl Fn(&str) -> usize) -> Result<Self, ContractError> {
        let mut plan = Self::default();
        for output in &contract.outputs {
            plan.add(output, Tensor { index: index(&output.tensor), element: output.dtype })?;
        }
        for state in contract.recurrent.iter().filter(|state| is_floating(state.dtype)) {
            plan.states.push(Tensor { index: index(&state.output), element: state.dtype });
        }
        let both = [ControlField::Curvature1pm, ControlField::AccelerationMps2];
        let steers = plan.control.as_ref().is_some_and(|(_, fields)| both.iter().all(|field| fields.contains(field)));
        if contract.platform == Platform::RoadVehicle && !steers {
            return Err(ContractError::PartMissing { part: "control output with curvature and acceleration" });
        }
        Ok(plan)
    }

    fn add(&mut self, output: &Output, tensor: Tensor) -> Result<(), ContractError> {
        let (meaning, width) = match &output.meaning {
            OutputMeaning::Trajectory { fields, .. } => ("trajectory", fields.len()),
            OutputMeaning::Control { fields } => ("control", fields.len()),
            OutputMeaning::Confidence => ("confidence", 1),
            OutputMeaning::Intent { classes } => ("intent", classes.len()),
            OutputMeaning::Actions { actions } => ("actions", actions.len()),
            OutputMeaning::Language { .. } => ("language", output.shape.last().map_or(0, |&tokens| tokens as usize)),
        };
        let whole_numbers = matches!(output.dtype, ElementType::I32 | ElementType::I64);
        let fits = if meaning == "language" { whole_numbers } else { is_floating(output.dtype) };
        if !fits {
            return Err(ContractError::TypeUnfit { tensor: output.tensor.clone(), meaning, found: output.dtype });
        }
        let elements: u64 = output.shape.iter().map(|&dimension| u64::from(dimension)).product();
        let points = elements.checked_div(width as u64).unwrap_or(0) as usize;
        let limit = match meaning {
            "trajectory" => TRAJECTORY_POINTS_MAX,
            _ => 1,
        };
        if elements != (points * width) as u64 || !(1..=limit).contains(&points) || (meaning == "actions" && width > ACTIONS_MAX) {
            let expected = match meaning {
                "trajectory" => format!("[1, points up to {TRAJECTORY_POINTS_MAX}, {width}]"),
                "actions" => format!("[1, actions up to {ACTIONS_MAX}]"),
                _ => format!("[1, {width}]"),
            };
            return Err(ContractError::ShapeUnfit { tensor: output.tensor.clone(), meaning, expected, found: output.shape.clone() });
        }
        let taken = match &output.meaning {
            OutputMeaning::Trajectory { step_s, fields } => {
                if !(step_s.is_finite() && *step_s > 0.0) {
                    return Err(ContractError::ValueUnfit {
                        tensor: output.tensor.clone(),
                        what: "step_s",
                        found: step_s.to_string(),
                        expected: "it must be above 0",
                    });
                }
                self.trajectory.replace(Trajectory { tensor, points, step_s: *step_s, fields: fields.clone() }).is_some()
            }
            OutputMeaning::Control { fields } => self.control.replace((tensor, fields.clone())).is_some(),
            OutputMeaning::Confidence => self.confidence.replace(tensor).is_some(),
            OutputMeaning::Intent { classes } => {
                self.intent.replace((tensor, classes.iter().copied().map(IntentCode::from).collect())).is_some()
            }
            OutputMeaning::Actions { actions } => {
                let ranges = actions.iter().map(|action| Range { min: action.min, max: action.max }).collect();
                self.actions.replace((tensor, ranges)).is_some()
            }
            OutputMeaning::Language { vocabulary } => self.language.replace((tensor, vocabulary.clone())).is_some(),
        };
        if taken {
            return Err(ContractError::Repeated { what: format!("the output meaning '{meaning}'") });
        }
        Ok(())
    }

    /// Which fields of the trajectory's points the model states.
    pub(crate) fn stated(&self) -> Stated {
        let states = |field| self.trajectory.as_ref().is_some_and(|trajectory| trajectory.fields.contains(&field));
        Stated { speed: states(TrajectoryField::SpeedMps), heading: states(TrajectoryField::HeadingRad) }
    }

    /// Reads the outputs of the last run into `output`. Notes [`Faults::NOT_FINITE`] when any number is not finite,
    /// [`Faults::ENVELOPE`] when an action is outside its range; the output must not be acted on then.
    pub(crate) fn read(&self, session: &Session, output: &mut DriveOutput, found: &mut Found) {
        let mut finite = true;
        let mut at = |tensor: Tensor, element: usize| {
            let value = value_at(tensor.element, session.output(tensor.index), element);
            finite &= value.is_finite();
            value
        };
        if let Some(trajectory) = &self.trajectory {
            output.trajectory_points = trajectory.points as u32;
            for (k, point) in output.trajectory[..trajectory.points].iter_mut().enumerate() {
                *point = TrajectoryPoint { time_s: (k + 1) as f32 * trajectory.step_s, ..TrajectoryPoint::default() };
                for (f, field) in trajectory.fields.iter().enumerate() {
                    *place(point, *field) = at(trajectory.tensor, k * trajectory.fields.len() + f);
                }
            }
        }
        if let Some((tensor, fields)) = &self.control {
            for (f, field) in fields.iter().enumerate() {
                match field {
                    ControlField::Curvature1pm => output.control.curvature_1pm = at(*tensor, f),
                    ControlField::AccelerationMps2 => output.control.acceleration_mps2 = at(*tensor, f),
                }
            }
        }
        // A model that states no confidence is trusted as far as its envelope.
        output.confidence = self.confidence.map_or(1.0, |tensor| at(tensor, 0));
        if let Some((tensor, classes)) = &self.intent {
            for (c, class) in classes.iter().enumerate() {
                let probability = at(*tensor, c);
                if c == 0 || probability > output.intent_probability {
                    (output.intent, output.intent_probability) = (*class, probability);
                }
            }
        }
        if let Some((tensor, ranges)) = &self.actions {
            output.actions_len = ranges.len() as u32;
            for (a, range) in ranges.iter().enumerate() {
                let value = at(*tensor, a);
                output.actions[a] = value;
                if !(range.min..=range.max).contains(&value) {
                    let Range { min, max } = *range;
                    found.note(Faults::ENVELOPE, StepFault::ActionOutOfRange { action: a, found: value, min, max });
                }
            }
        }
        let finite = finite && self.states.iter().all(|state| is_all_finite(state.element, session.output(state.index)));
        if !finite {
            found.note(Faults::NOT_FINITE, StepFault::NotFinite);
        }
    }

    /// The model's own words of the last run; token numbers outside the vocabulary are left out.
    pub(crate) fn language<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = &'a str> {
        self.language.iter().flat_map(|(tensor, vocabulary)| {
            let bytes = session.output(tensor.index);
            let tokens = bytes.len() / if tensor.element == ElementType::I64 { 8 } else { 4 };
            (0..tokens)
                .filter_map(move |t| usize::try_from(whole_at(tensor.element, bytes, t)).ok())
                .filter_map(|token| vocabulary.get(token))
                .map(String::as_str)
        })
    }
}

impl From<Intent> for IntentCode {
    fn from(intent: Intent) -> Self {
        match intent {
            Intent::KeepLane => Self::KeepLane,
            Intent::Follow => Self::Follow,
            Intent::Yield => Self::Yield,
            Intent::GestureStop => Self::GestureStop,
            Intent::Left => Self::Left,
            Intent::Right => Self::Right,
            Intent::Standstill => Self::Standstill,
        }
    }
}

fn place(point: &mut TrajectoryPoint, field: TrajectoryField) -> &mut f32 {
    match field {
        TrajectoryField::XM => &mut point.x_m,
        TrajectoryField::YM => &mut point.y_m,
        TrajectoryField::HeadingRad => &mut point.heading_rad,
        TrajectoryField::SpeedMps => &mut point.speed_mps,
        TrajectoryField::XStdM => &mut point.x_std_m,
        TrajectoryField::YStdM => &mut point.y_std_m,
    }
}

fn is_floating(element: ElementType) -> bool {
    matches!(element, ElementType::F16 | ElementType::Bf16 | ElementType::F32)
}

fn is_all_finite(element: ElementType, bytes: &[u8]) -> bool {
    match element {
        ElementType::F32 => elements(bytes).all(|bytes| f32::from_ne_bytes(bytes).is_finite()),
        ElementType::F16 => elements(bytes).all(|bytes| f16::from_ne_bytes(bytes).is_finite()),
        ElementType::Bf16 => elements(bytes).all(|bytes| bf16::from_ne_bytes(bytes).is_finite()),
        ElementType::U8 | ElementType::I32 | ElementType::I64 => true,
    }
}

fn elements<const B: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; B]> {
    bytes.as_chunks::<B>().0.iter().copied()
}

/// Element `at` as f32; not a number where there is none, so that a wrong index cannot pass for a zero.
pub(crate) fn value_at(element: ElementType, bytes: &[u8], at: usize) -> f32 {
    let found = match element {
        ElementType::F32 => element_at(bytes, at).map(f32::from_ne_bytes),
        ElementType::F16 => element_at(bytes, at).map(|bytes| f16::from_ne_bytes(bytes).to_f32()),
        ElementType::Bf16 => element_at(bytes, at).map(|bytes| bf16::from_ne_bytes(bytes).to_f32()),
        ElementType::U8 => bytes.get(at).map(|&value| f32::from(value)),
        ElementType::I32 | ElementType::I64 => Some(whole_at(element, bytes, at) as f32),
    };
    found.unwrap_or(f32::NAN)
}

fn whole_at(element: ElementType, bytes: &[u8], at: usize) -> i64 {
    let found = match element {
        ElementType::I64 => element_at(bytes, at).map(i64::from_ne_bytes),
        _ => element_at(bytes, at).map(|bytes| i64::from(i32::from_ne_bytes(bytes))),
    };
    found.unwrap_or(-1)
}

fn element_at<const B: usize>(bytes: &[u8], at: usize) -> Option<[u8; B]> {
    bytes.as_chunks::<B>().0.get(at).copied()
}
