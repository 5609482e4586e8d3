//! The model that is being packed, opened and run as a vehicle would.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::Context;
use switchback_onnx::{RecurrentPair, Runtime, Session, SessionOptions, TensorInfo};
use switchback_signing::bundle::{Contract, contract::Tensor};

use super::{
    Arguments, MODEL_PATH,
    golden::{Case, Golden, safetensors, value_at},
    members::{Members, Staging},
};
use crate::failure::{Hint, failure};

/// An opened model that matches its contract.
pub(super) struct Candidate {
    session: Session,
    pub(super) runtime_version: String,
    // Dropped after the session, which may map its files.
    _staging: Staging,
}

impl Candidate {
    /// Opens the model from a copy of exactly the files that will be in the bundle.
    pub(super) fn open(members: &Members, contract: &Contract, arguments: &Arguments) -> anyhow::Result<Self> {
        let runtime = Runtime::load(arguments.runtime.as_deref())?;
        let version = runtime.version().to_owned();
        if !contract.runtime.contains(&version) {
            let below = contract.runtime.onnxruntime_below.as_ref().map(|below| format!(" and below {below}")).unwrap_or_default();
            return Err(failure(
                format!("this is ONNX Runtime {version}, the contract asks for {}{below}", contract.runtime.onnxruntime_min),
                "name another library with --runtime, or correct `runtime` in the contract",
            ));
        }
        let staging = Staging::create(&arguments.out)?;
        members.stage(staging.path())?;
        let recurrent = contract.recurrent.iter().map(|state| RecurrentPair { input: state.input.clone(), output: state.output.clone() });
        let options = SessionOptions { recurrent: recurrent.collect(), ..SessionOptions::default() };
        let session = Session::open(&runtime, &staging.path().join(MODEL_PATH), &options)
            .with_context(|| format!("cannot run {}", arguments.model.display()))
            .hint("external data must be named with --data, and the contract's recurrent pairs must be tensors of the graph")?;
        check_tensors(&session, contract)?;
        Ok(Self { session, runtime_version: version, _staging: staging })
    }

    /// Runs the cases in order, the recurrent state carried from one to the next, and records what the vehicle will compare.
    pub(super) fn record(&mut self, cases: Vec<Case>, contract: &Contract) -> anyhow::Result<Golden> {
        let mut slowest_run = Duration::ZERO;
        let mut recorded = Vec::with_capacity(cases.len());
        self.session.reset_recurrent();
        for (number, case) in cases.iter().enumerate() {
            for (tensor, bytes) in contract.inputs.iter().zip(&case.tensors) {
                let index =
                    self.session.input_index(&tensor.tensor).with_context(|| format!("the graph lost its input {}", tensor.tensor))?;
                self.session.input_mut(index).copy_from_slice(bytes);
            }
            let start = Instant::now();
            self.session.run().with_context(|| format!("the model failed in self-test case {number}"))?;
            slowest_run = slowest_run.max(start.elapsed());
            recorded.push(self.outputs(number, contract)?);
        }
        let inputs = contract.inputs.iter().map(|input| Tensor { name: &input.tensor, dtype: input.dtype, shape: &input.shape });
        let outputs = contract.outputs.iter().map(|output| Tensor { name: &output.tensor, dtype: output.dtype, shape: &output.shape });
        Ok(Golden {
            cases: u32::try_from(cases.len()).context("too many self-test cases")?,
            inputs: safetensors(&inputs.collect::<Vec<_>>(), &cases)?,
            outputs: safetensors(&outputs.collect::<Vec<_>>(), &recorded)?,
            slowest_run,
        })
    }

    fn outputs(&self, case: usize, contract: &Contract) -> anyhow::Result<Case> {
        let mut tensors = Vec::with_capacity(contract.outputs.len());
        for (position, tensor) in contract.output_tensors().enumerate() {
            let index = self.session.output_index(tensor.name).with_context(|| format!("the graph lost its output {}", tensor.name))?;
            let bytes = self.session.output(index);
            check_finite(case, &tensor, bytes)?;
            // Recurrent outputs are checked too, but a vehicle compares what the contract calls outputs.
            if position < contract.outputs.len() {
                tensors.push(bytes.to_vec());
            }
        }
        Ok(Case { tensors })
    }
}

fn check_finite(case: usize, tensor: &Tensor<'_>, bytes: &[u8]) -> anyhow::Result<()> {
    let mut values = (0..tensor.elements()).map(|element| value_at(tensor.dtype, bytes, element));
    match values.position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(element) => {
            let value = value_at(tensor.dtype, bytes, element);
            let what = format!("output `{}` is {value} at element {element} in self-test case {case}", tensor.name);
            Err(failure(
                what,
                "a model that gives a value that is not finite may not drive; the inputs of the case show where it comes from",
            ))
        }
    }
}

/// That graph and contract mean the same tensors. All differences are told at once.
fn check_tensors(session: &Session, contract: &Contract) -> anyhow::Result<()> {
    let (inputs, outputs) = (session.inputs().collect::<Vec<_>>(), session.outputs().collect::<Vec<_>>());
    let mut differences = Vec::new();
    contract.input_tensors().for_each(|tensor| differences.extend(difference("input", &tensor, &inputs)));
    contract.output_tensors().for_each(|tensor| differences.extend(difference("output", &tensor, &outputs)));
    for input in &inputs {
        if !contract.input_tensors().any(|tensor| tensor.name == input.name) {
            differences.push(format!(
                "the graph's input `{}` ({} {:?}) is not in the contract",
                input.name,
                input.element_type.name(),
                input.shape
            ));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let mut text = "model and contract do not match".to_owned();
    for difference in &differences {
        let _ = write!(text, "\n  {difference}");
    }
    Err(failure(text, "correct the contract, or export the model again"))
}

fn difference(kind: &str, expected: &Tensor<'_>, found: &[&TensorInfo]) -> Option<String> {
    let Some(info) = found.iter().find(|info| info.name == expected.name) else {
        let names: Vec<&str> = found.iter().map(|info| info.name.as_str()).collect();
        return Some(format!("the contract's {kind} `{}` is not in the graph, which has: {}", expected.name, names.join(", ")));
    };
    let shape: Vec<usize> = expected.shape.iter().map(|&dimension| dimension as usize).collect();
    if info.element_type.name() == expected.dtype.to_string() && info.shape == shape {
        return None;
    }
    let (dtype, graph) = (expected.dtype, info.element_type.name());
    Some(format!("{kind} `{}`: the contract says {dtype} {shape:?}, the graph has {graph} {:?}", expected.name, info.shape))
}
