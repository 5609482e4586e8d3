//! A model, opened and bound to its buffers.

use std::path::Path;

use ort::AsPointer;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::sys::OrtApi;

use crate::binding::{Binding, MemoryInfo, RunOptions, Value, check};
use crate::buffer::Buffer;
use crate::error::{OpenError, RunError, WrongElement};
use crate::runtime::Runtime;
use crate::tensor::{Element, TensorInfo};

/// Whether weights are copied into the layout that the kernels like best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prepacking {
    /// Some 14 % faster on matrix products (none on convolutions); costs a private copy of the weights, and time.
    #[default]
    On,
    /// Weights stay mapped from the file: a 189 MB model takes 25 instead of 192 MiB and opens in a fifth of the time.
    Off,
}

/// How far ONNX Runtime rewrites the graph while opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Optimization {
    /// Not at all: for a model that was optimized before it was packed.
    Disabled,
    /// Rewrites that keep every bit of the arithmetic, such as constant folding.
    Basic,
    /// Also fused kernels and layouts of this machine: the fastest, and the slowest to open.
    #[default]
    All,
}

/// An output whose value after one run is the input of the next, such as a recurrent network's hidden state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecurrentPair {
    /// The name of the input that receives the state; all zero before the first run.
    pub input: String,
    /// The name of the output that produces it. Same element type and shape.
    pub output: String,
}

/// How to open a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that one run uses, the caller's included. 1 starts no thread at all.
    pub intra_threads: usize,
    /// See [`Prepacking`].
    pub prepacking: Prepacking,
    /// See [`Optimization`].
    pub optimization: Optimization,
    /// Which outputs feed which inputs of the next run.
    pub recurrent: Vec<RecurrentPair>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { intra_threads: 1, prepacking: Prepacking::default(), optimization: Optimization::default(), recurrent: Vec::new() }
    }
}

/// One tensor and the buffer it is bound to in each of the two phases (see [`Session`]).
#[derive(Debug)]
struct Bound {
    info: TensorInfo,
    buffers: [usize; 2],
}

/// A model with one buffer for each input and output, bound once.
///
/// Fill the inputs in place, [`run`](Session::run), read the outputs in place. A session may move between threads, but
/// belongs to one at a time (it is `Send` and not `Sync`: ONNX Runtime's run is not thread-safe).
///
/// Recurrent state is not copied. Each pair has two buffers, and there are two bindings that have them the other way
/// round; runs alternate between the bindings. So the state costs nothing per run at any size, and after a
/// failed run the state from before it is still there, because only a successful run changes sides.
#[derive(Debug)]
pub struct Session {
    // Field order is drop order: bindings refer to values, values to buffers, all of them to the session.
    bindings: Vec<Binding>,
    run_options: RunOptions,
    _values: Vec<Value>,
    buffers: Vec<Buffer>,
    inputs: Vec<Bound>,
    outputs: Vec<Bound>,
    recurrent: Vec<(usize, usize)>,
    /// The binding that the next run uses.
    next: usize,
    /// The binding that the last successful run used.
    last: usize,
    api: &'static OrtApi,
    inner: ort::session::Session,
}

impl Session {
    /// Opens the model at `path` and binds its buffers, which are all zero then.
    ///
    /// Blocks for milliseconds to seconds depending on the model. External data must lie in the model's own directory
    /// and not behind a symbolic link (ONNX Runtime refuses both).
    ///
    /// # Errors
    /// [`OpenError`]; among others for a tensor whose shape is not fixed. (A dynamic dimension in front is taken as
    /// a batch and bound as 1.)
    pub fn open(runtime: &Runtime, path: &Path, options: &SessionOptions) -> Result<Self, OpenError> {
        if !path.exists() {
            return Err(OpenError::ModelNotFound { path: path.to_owned() });
        }
        let refused = |reason: String| OpenError::Refused { path: path.to_owned(), reason };
        let inner =
            builder(runtime, options).and_then(|mut builder| builder.commit_from_file(path)).map_err(|error| refused(error.to_string()))?;
        let inputs = inner.inputs().iter().map(TensorInfo::from_outlet).collect::<Result<Vec<_>, _>>()?;
        let outputs = inner.outputs().iter().map(TensorInfo::from_outlet).collect::<Result<Vec<_>, _>>()?;
        let recurrent = resolve_pairs(&options.recurrent, &inputs, &outputs)?;
        Self::bind(inner, Layout::new(inputs, outputs, recurrent)).map_err(refused)
    }

    fn bind(inner: ort::session::Session, layout: Layout) -> Result<Self, String> {
        let Layout { sizes, inputs, outputs, recurrent } = layout;
        let buffers: Vec<Buffer> = sizes.into_iter().map(Buffer::zeroed).collect();
        let memory = MemoryInfo::cpu()?;
        let session = inner.ptr().cast_mut();
        let phases = if recurrent.is_empty() { 1 } else { 2 };
        let mut bindings = Vec::with_capacity(phases);
        let mut values = Vec::new();
        for phase in 0..phases {
            let binding = Binding::new(session)?;
            for input in &inputs {
                let value = Value::over(&buffers[input.buffers[phase]], &input.info, &memory)?;
                binding.input(&input.info.name, &value)?;
                values.push(value);
            }
            for output in &outputs {
                let value = Value::over(&buffers[output.buffers[phase]], &output.info, &memory)?;
                binding.output(&output.info.name, &value)?;
                values.push(value);
            }
            bindings.push(binding);
        }
        Ok(Self {
            bindings,
            run_options: RunOptions::new()?,
            _values: values,
            buffers,
            inputs,
            outputs,
            recurrent,
            next: 0,
            last: 0,
            api: ort::api(),
            inner,
        })
    }

    /// Runs the model once, from the input buffers into the output buffers, and advances the recurrent state.
    ///
    /// Blocks until the model has run. Allocates nothing of ours on success (ONNX Runtime itself allocates).
    ///
    /// # Errors
    /// [`RunError`] with ONNX Runtime's text. Inputs and recurrent state are then as before, outputs undefined.
    pub fn run(&mut self) -> Result<(), RunError> {
        let session = self.inner.ptr().cast_mut();
        // SAFETY: session, options and binding are valid and of one another. `&mut self` keeps every slice of the bound
        // buffers and every other run away until this call returns, and ONNX Runtime uses the buffers during it only.
        let status = unsafe { (self.api.RunWithBinding)(session, self.run_options.as_ptr(), self.bindings[self.next].as_ptr()) };
        check(status).map_err(|reason| RunError { reason })?;
        self.last = self.next;
        self.next = (self.next + 1) % self.bindings.len();
        Ok(())
    }

    /// Fills every recurrent state with zeros, as after opening.
    pub fn reset_recurrent(&mut self) {
        for &(input, _) in &self.recurrent {
            let buffer = self.inputs[input].buffers[self.next];
            self.buffers[buffer].as_mut_slice::<u8>(usize::MAX).fill(0);
        }
    }

    /// The bytes of input `index`, to be filled before a run. What is not filled keeps its value from the run before.
    ///
    /// For the input of a recurrent pair this is the state that the next run starts from.
    ///
    /// # Panics
    /// If there is no input `index`; see [`Session::input_index`].
    pub fn input_mut(&mut self, index: usize) -> &mut [u8] {
        let bound = &self.inputs[index];
        self.buffers[bound.buffers[self.next]].as_mut_slice(bound.info.bytes())
    }

    /// The bytes of input `index` as the next run will see them.
    ///
    /// # Panics
    /// If there is no input `index`.
    #[must_use]
    pub fn input(&self, index: usize) -> &[u8] {
        let bound = &self.inputs[index];
        self.buffers[bound.buffers[self.next]].as_slice(bound.info.bytes())
    }

    /// As [`Session::input_mut`], by element.
    ///
    /// # Errors
    /// [`WrongElement`] if the tensor has another element type.
    ///
    /// # Panics
    /// If there is no input `index`.
    pub fn input_as_mut<T: Element>(&mut self, index: usize) -> Result<&mut [T], WrongElement> {
        let bound = &self.inputs[index];
        expect_element::<T>(&bound.info)?;
        Ok(self.buffers[bound.buffers[self.next]].as_mut_slice(bound.info.elements()))
    }

    /// The bytes of output `index` of the last successful run; zero before the first.
    ///
    /// # Panics
    /// If there is no output `index`; see [`Session::output_index`].
    #[must_use]
    pub fn output(&self, index: usize) -> &[u8] {
        let bound = &self.outputs[index];
        self.buffers[bound.buffers[self.last]].as_slice(bound.info.bytes())
    }

    /// As [`Session::output`], by element.
    ///
    /// # Errors
    /// [`WrongElement`] if the tensor has another element type.
    ///
    /// # Panics
    /// If there is no output `index`.
    pub fn output_as<T: Element>(&self, index: usize) -> Result<&[T], WrongElement> {
        let bound = &self.outputs[index];
        expect_element::<T>(&bound.info)?;
        Ok(self.buffers[bound.buffers[self.last]].as_slice(bound.info.elements()))
    }

    /// The model's inputs, in its order; the position is the index of the other functions.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.inputs.iter().map(|bound| &bound.info)
    }

    /// The model's outputs, in its order.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.outputs.iter().map(|bound| &bound.info)
    }

    /// The index of the input called `name`.
    #[must_use]
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|bound| bound.info.name == name)
    }

    /// The index of the output called `name`.
    #[must_use]
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|bound| bound.info.name == name)
    }

    /// The recurrent pairs as (input index, output index).
    #[must_use]
    pub fn recurrent(&self) -> &[(usize, usize)] {
        &self.recurrent
    }
}

pub(crate) fn builder(runtime: &Runtime, options: &SessionOptions) -> Result<SessionBuilder, ort::Error> {
    let level = match options.optimization {
        Optimization::Disabled => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::All => GraphOptimizationLevel::All,
    };
    Ok(ort::session::Session::builder(runtime.environment())?
        .with_intra_threads(options.intra_threads.max(1))?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        // Threads that spin for work take the cores that the rest of the vehicle's software needs.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_optimization_level(level)?
        .with_prepacking(options.prepacking == Prepacking::On)?
        // The self-test compares with what the release engineer's machine computed.
        .with_deterministic_compute(true)?
        .with_log_level(LogLevel::Fatal)?)
}

fn expect_element<T: Element>(info: &TensorInfo) -> Result<(), WrongElement> {
    if info.element_type == T::TYPE {
        return Ok(());
    }
    Err(WrongElement { tensor: info.name.clone(), asked: T::TYPE, found: info.element_type })
}

/// Which tensor gets which buffer in which phase.
struct Layout {
    sizes: Vec<usize>,
    inputs: Vec<Bound>,
    outputs: Vec<Bound>,
    recurrent: Vec<(usize, usize)>,
}

impl Layout {
    fn new(inputs: Vec<TensorInfo>, outputs: Vec<TensorInfo>, recurrent: Vec<(usize, usize)>) -> Self {
        let mut sizes = Vec::new();
        let mut own_buffer = |info: TensorInfo| {
            sizes.push(info.bytes());
            Bound { info, buffers: [sizes.len() - 1; 2] }
        };
        let mut inputs: Vec<Bound> = inputs.into_iter().map(&mut own_buffer).collect();
        let mut outputs: Vec<Bound> = outputs.into_iter().map(&mut own_buffer).collect();
        for &(input, output) in &recurrent {
            let (one, other) = (inputs[input].buffers[0], outputs[output].buffers[0]);
            inputs[input].buffers = [one, other];
            outputs[output].buffers = [other, one];
        }
        Self { sizes, inputs, outputs, recurrent }
    }
}

fn resolve_pairs(pairs: &[RecurrentPair], inputs: &[TensorInfo], outputs: &[TensorInfo]) -> Result<Vec<(usize, usize)>, OpenError> {
    let mut resolved: Vec<(usize, usize)> = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let wrong = |reason: String| OpenError::RecurrentPair { input: pair.input.clone(), output: pair.output.clone(), reason };
        let find = |tensors: &[TensorInfo], name: &str| tensors.iter().position(|tensor| tensor.name == name);
        let input = find(inputs, &pair.input).ok_or_else(|| wrong("the model has no such input".to_owned()))?;
        let output = find(outputs, &pair.output).ok_or_else(|| wrong("the model has no such output".to_owned()))?;
        let (to, from) = (&inputs[input], &outputs[output]);
        if (to.element_type, &to.shape) != (from.element_type, &from.shape) {
            return Err(wrong(format!(
                "the output is {} {:?}, the input is {} {:?}",
                from.element_type, from.shape, to.element_type, to.shape
            )));
        }
        if resolved.iter().any(|&(i, o)| i == input || o == output) {
            return Err(wrong("one of the two is already in another pair".to_owned()));
        }
        resolved.push((input, output));
    }
    Ok(resolved)
}
