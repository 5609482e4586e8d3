//! One model, ready to answer: its session, its compiled contract and what it remembers.

use switchback_onnx::{ElementType as OnnxElement, RecurrentPair, Session, TensorInfo};
use switchback_signing::bundle::contract::{CONTRACT_VERSION, Contract, ElementType, Envelope, Platform};

use super::envelope::{Bearing, Motion, breach};
use super::inputs::{Filled, InputLimits, InputPlan, InputState, Tensors};
use super::outputs::OutputPlan;
use super::{Clock, ContractError, DriveInput, DriveOutput, Faults, Found, ModelIdentity};

/// Steps that an output stays valid after its deadline: one lost answer must not stop a vehicle.
const VALID_STEPS: i64 = 2;

/// A model with its contract. Used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Model {
    session: Session,
    inputs: InputPlan,
    state: InputState,
    outputs: OutputPlan,
    envelope: Option<Envelope>,
    confidence_min: f32,
    deadline_ns: i64,
    valid_ns: i64,
    step_ns: i64,
    identity: ModelIdentity,
}

/// The valid output before, for the jerk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) acceleration_mps2: f32,
    pub(crate) time_ns: i64,
}

impl Model {
    /// Checks the contract against the session's tensors and compiles it.
    pub(crate) fn new(session: Session, contract: &Contract, identity: ModelIdentity) -> Result<Self, ContractError> {
        if contract.contract_version != CONTRACT_VERSION {
            return Err(ContractError::VersionUnknown { found: contract.contract_version, known: CONTRACT_VERSION });
        }
        compare(&session, contract)?;
        let road = contract.platform == Platform::RoadVehicle;
        if road && contract.envelope.is_none() {
            return Err(ContractError::PartMissing { part: "envelope" });
        }
        // `compare` found every name in the session.
        let inputs = InputPlan::compile(contract, road, |name| session.input_index(name).unwrap_or(usize::MAX))?;
        let outputs = OutputPlan::compile(contract, |name| session.output_index(name).unwrap_or(usize::MAX))?;
        let milliseconds = |ms: u32| i64::from(ms) * 1_000_000;
        let deadline_ns = milliseconds(contract.deadline_ms);
        let step_ns = milliseconds(contract.step_ms);
        Ok(Self {
            session,
            inputs,
            state: InputState::default(),
            outputs,
            envelope: contract.envelope.filter(|_| road),
            confidence_min: contract.confidence_min,
            deadline_ns,
            valid_ns: deadline_ns + VALID_STEPS * step_ns,
            step_ns,
            identity,
        })
    }

    /// Answers one step. `output` is complete afterwards but for what only the driver knows (times, takeover); on a fault that
    /// forbids acting on it, it carries no answer.
    pub(crate) fn answer(
        &mut self,
        input: &DriveInput<'_>,
        limits: &InputLimits,
        before: Option<Before>,
        clock: &dyn Clock,
        output: &mut DriveOutput,
    ) -> Found {
        let filled = self.inputs.fill(input, limits, &mut self.state, &mut self.session);
        let moment = Moment::new(input, filled);
        self.complete(&moment, before, clock, output)
    }

    /// Answers a step whose inputs another thread prepared.
    pub(crate) fn answer_staged(
        &mut self,
        staging: &Staging,
        before: Option<Before>,
        clock: &dyn Clock,
        output: &mut DriveOutput,
    ) -> Option<Found> {
        let moment = staging.moment.as_ref()?;
        for (index, tensor) in staging.tensors.iter().enumerate().filter(|(_, tensor)| !tensor.is_empty()) {
            self.session.input_mut(index).copy_from_slice(tensor);
        }
        self.state = staging.state.clone();
        Some(self.complete(moment, before, clock, output))
    }

    fn complete(&mut self, moment: &Moment, before: Option<Before>, clock: &dyn Clock, output: &mut DriveOutput) -> Found {
        let filled = &moment.filled;
        output.model = self.identity;
        output.frame_id = filled.frame_id;
        output.exposure_ns = filled.exposure_ns;
        output.valid_until_ns = filled.exposure_ns.saturating_add(self.valid_ns);
        let mut answer = filled.found.clone();
        if !answer.faults.intersects(Faults::OF_INPUT) {
            if filled.restarts {
                self.session.reset_recurrent();
            }
            let start = clock.now_ns();
            let run = self.session.run();
            output.run_ns = clock.now_ns().saturating_sub(start);
            match run {
                Ok(()) => self.judge(moment, before, output, &mut answer),
                Err(error) => answer.note(Faults::RUN_FAILED, error.into()),
            }
        }
        output.control_valid = !answer.faults.intersects(Faults::OF_INPUT | Faults::OF_MODEL);
        if !output.control_valid {
            output.withhold();
        }
        answer
    }

    fn judge(&self, moment: &Moment, before: Option<Before>, output: &mut DriveOutput, answer: &mut Found) {
        self.outputs.read(&self.session, output, answer);
        if answer.faults.contains(Faults::NOT_FINITE) {
            return;
        }
        if let Some(envelope) = &self.envelope {
            let points = output.trajectory_points as usize;
            let before = before.and_then(|before| self.since(before, moment.time_ns));
            let motion = Motion { speed_mps: moment.speed_mps, yaw_rate_radps: moment.yaw_rate_radps, before };
            if let Some(breach) = breach(envelope, motion, output.control, &output.trajectory[..points], self.outputs.stated()) {
                answer.note(Faults::ENVELOPE, breach.into());
            }
        }
        if output.confidence < self.confidence_min {
            answer.faults.insert(Faults::LOW_CONFIDENCE);
        }
    }

    /// The output before and the seconds since, unless it is too old to say anything about the jerk.
    fn since(&self, before: Before, time_ns: i64) -> Option<(f32, f32)> {
        let since_ns = time_ns.saturating_sub(before.time_ns);
        let recent = 1..=2 * self.step_ns.max(1);
        recent.contains(&since_ns).then_some((before.acceleration_mps2, since_ns as f32 * 1e-9))
    }

    /// A place into which another thread can prepare inputs for this model.
    pub(crate) fn staging(&self) -> Staging {
        let recurrent = |index| self.session.recurrent().iter().any(|&(input, _)| input == index);
        let tensors =
            self.session.inputs().enumerate().map(|(index, info)| if recurrent(index) { Vec::new() } else { vec![0; info.bytes()] });
        Staging {
            generation: self.identity.generation,
            plan: self.inputs.clone(),
            state: InputState::default(),
            tensors: StagedTensors(tensors.collect()),
            moment: None,
            begun_ns: 0,
            reference: DriveOutput::default(),
        }
    }

    /// The session, for tests before the model answers anything. The next answer starts with zero state.
    pub(crate) fn session_mut(&mut self) -> &mut Session {
        self.state = InputState::default();
        &mut self.session
    }

    pub(crate) fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    /// Longest time from exposure to output.
    pub(crate) fn deadline_ns(&self) -> i64 {
        self.deadline_ns
    }

    pub(crate) fn step_ns(&self) -> i64 {
        self.step_ns
    }

    /// The time that the model itself may take for a step whose input is that old: what is left of the deadline, and half of the deadline at
    /// least. An input that ate more than the other half comes from a slow camera, and would make any model late.
    pub(crate) fn budget_ns(&self, age_ns: i64) -> i64 {
        budget_ns(self.deadline_ns, age_ns)
    }

    /// The model's own words of its last run.
    pub(crate) fn language(&self) -> impl Iterator<Item = &str> {
        self.outputs.language(&self.session)
    }
}

/// The moment of a step, as far as an answer depends on it.
#[derive(Clone, Debug)]
struct Moment {
    speed_mps: f32,
    yaw_rate_radps: f32,
    time_ns: i64,
    filled: Filled,
}

impl Moment {
    fn new(input: &DriveInput<'_>, filled: Filled) -> Self {
        Self { speed_mps: input.ego.speed_mps, yaw_rate_radps: input.ego.yaw_rate_radps, time_ns: input.time_ns, filled }
    }
}

/// Inputs of one step, prepared on the driving thread for a model that another thread runs, and what the active model answered.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) generation: u64,
    plan: InputPlan,
    state: InputState,
    tensors: StagedTensors,
    moment: Option<Moment>,
    /// When the step began, by the engine's clock.
    pub(crate) begun_ns: u64,
    /// The active model's output of the same step.
    pub(crate) reference: DriveOutput,
}

#[derive(Debug)]
struct StagedTensors(Vec<Vec<u8>>);

impl StagedTensors {
    fn iter(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.0.iter()
    }
}

impl Tensors for StagedTensors {
    fn tensor_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.0[index]
    }
}

impl Staging {
    /// Prepares the inputs of one step that began at `begun_ns`. Allocates nothing.
    pub(crate) fn fill(&mut self, input: &DriveInput<'_>, limits: &InputLimits, begun_ns: u64, reference: &DriveOutput) {
        self.begun_ns = begun_ns;
        let filled = self.plan.fill(input, limits, &mut self.state, &mut self.tensors);
        self.moment = Some(Moment::new(input, filled));
        self.reference = *reference;
    }

    /// The vehicle in the step that was prepared.
    pub(crate) fn bearing(&self) -> Option<Bearing> {
        self.moment.as_ref().map(|moment| Bearing {
            time_ns: moment.time_ns,
            mode: self.reference.mode,
            speed_mps: moment.speed_mps,
            yaw_rate_radps: moment.yaw_rate_radps,
        })
    }
}

/// See [`Model::budget_ns`].
pub(crate) fn budget_ns(deadline_ns: i64, age_ns: i64) -> i64 {
    deadline_ns.saturating_sub(age_ns.max(0)).max(deadline_ns / 2)
}

/// The recurrent pairs of a contract, for opening the session.
pub(crate) fn recurrent_pairs(contract: &Contract) -> Vec<RecurrentPair> {
    let pairs = contract.recurrent.iter();
    pairs.map(|pair| RecurrentPair { input: pair.input.clone(), output: pair.output.clone() }).collect()
}

/// Every tensor of the contract is in the model with the same type and shape, and every input of the model is in the contract.
fn compare(session: &Session, contract: &Contract) -> Result<(), ContractError> {
    let (inputs, outputs): (Vec<_>, Vec<_>) = (session.inputs().collect(), session.outputs().collect());
    let recurrent = &contract.recurrent;
    let listed_inputs = contract.inputs.iter().map(|input| ("input", &input.tensor, input.dtype, &input.shape));
    let listed_inputs: Vec<_> =
        listed_inputs.chain(recurrent.iter().map(|pair| ("recurrent input", &pair.input, pair.dtype, &pair.shape))).collect();
    let listed_outputs = contract.outputs.iter().map(|output| ("output", &output.tensor, output.dtype, &output.shape));
    let listed_outputs: Vec<_> =
        listed_outputs.chain(recurrent.iter().map(|pair| ("recurrent output", &pair.output, pair.dtype, &pair.shape))).collect();
    for (listed, found) in [(&listed_inputs, &inputs), (&listed_outputs, &outputs)] {
        for (at, (role, tensor, dtype, shape)) in listed.iter().enumerate() {
            // A recurrent output may also have a meaning of its own; an input has one source only.
            if role.ends_with("input") && listed[..at].iter().any(|(_, other, ..)| other == tensor) {
                return Err(ContractError::Repeated { what: format!("the tensor '{tensor}'") });
            }
            let info = found.iter().find(|info| info.name == **tensor).ok_or_else(|| ContractError::TensorMissing {
                role,
                tensor: (*tensor).clone(),
                found: found.iter().map(|info| info.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
            compare_tensor(info, *dtype, shape)?;
        }
    }
    match inputs.iter().find(|info| listed_inputs.iter().all(|(_, tensor, ..)| **tensor != info.name)) {
        Some(unlisted) => Err(ContractError::InputUnlisted { tensor: unlisted.name.clone() }),
        None => Ok(()),
    }
}

fn compare_tensor(info: &TensorInfo, dtype: ElementType, shape: &[u32]) -> Result<(), ContractError> {
    let shape: Vec<usize> = shape.iter().map(|&dimension| dimension as usize).collect();
    let element = onnx_element(dtype);
    if (element, &shape) == (info.element_type, &info.shape) {
        return Ok(());
    }
    Err(ContractError::TensorDiffers {
        tensor: info.name.clone(),
        expected: format!("{element} {shape:?}"),
        found: format!("{} {:?}", info.element_type, info.shape),
    })
}

pub(crate) fn onnx_element(dtype: ElementType) -> OnnxElement {
    match dtype {
        ElementType::U8 => OnnxElement::U8,
        ElementType::I32 => OnnxElement::I32,
        ElementType::I64 => OnnxElement::I64,
        ElementType::F16 => OnnxElement::F16,
        ElementType::Bf16 => OnnxElement::Bf16,
        ElementType::F32 => OnnxElement::F32,
    }
}
