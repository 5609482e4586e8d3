//! What a C program does at the least: `OrtApi::Run` on values that were made once. The measure of what a step costs beyond it.

use std::ffi::{CString, c_char};
use std::path::Path;

use ort::AsPointer;
use ort::sys::{OrtApi, OrtValue};

use crate::binding::{MemoryInfo, RunOptions, Value, check};
use crate::buffer::Buffer;
use crate::error::{OpenError, RunError};
use crate::runtime::Runtime;
use crate::session::{SessionOptions, builder};
use crate::tensor::TensorInfo;

/// A model, opened with the options of a [`crate::Session`], and nothing around it. Its inputs are zero.
#[derive(Debug)]
pub struct RawLoop {
    inputs: Side,
    outputs: Side,
    run_options: RunOptions,
    api: &'static OrtApi,
    inner: ort::session::Session,
}

/// The inputs or the outputs. Field order is drop order: values refer to buffers.
#[derive(Debug)]
struct Side {
    /// What `values` and `names` own, as the C API wants it.
    raw_values: Vec<*mut OrtValue>,
    raw_names: Vec<*const c_char>,
    _values: Vec<Value>,
    _names: Vec<CString>,
    _buffers: Vec<Buffer>,
}

impl RawLoop {
    /// Opens the model at `path`. Recurrent pairs are ignored: nothing is carried on.
    ///
    /// # Errors
    /// [`OpenError`] as [`crate::Session::open`].
    pub fn open(runtime: &Runtime, path: &Path, options: &SessionOptions) -> Result<Self, OpenError> {
        let refused = |reason: String| OpenError::Refused { path: path.to_owned(), reason };
        let inner =
            builder(runtime, options).and_then(|mut builder| builder.commit_from_file(path)).map_err(|error| refused(error.to_string()))?;
        let inputs = inner.inputs().iter().map(TensorInfo::from_outlet).collect::<Result<Vec<_>, _>>()?;
        let outputs = inner.outputs().iter().map(TensorInfo::from_outlet).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            inputs: Side::new(&inputs).map_err(refused)?,
            outputs: Side::new(&outputs).map_err(refused)?,
            run_options: RunOptions::new().map_err(refused)?,
            api: ort::api(),
            inner,
        })
    }

    /// One run, and nothing else.
    ///
    /// # Errors
    /// [`RunError`] with ONNX Runtime's text.
    pub fn run(&mut self) -> Result<(), RunError> {
        // SAFETY: all pointers are those of live objects of this session, the counts are the lengths of the arrays, and `&mut self` keeps
        // every other run away. The outputs are given, so nothing is allocated into their places.
        let status = unsafe {
            (self.api.Run)(
                self.inner.ptr().cast_mut(),
                self.run_options.as_ptr(),
                self.inputs.raw_names.as_ptr(),
                self.inputs.raw_values.as_ptr().cast(),
                self.inputs.raw_values.len(),
                self.outputs.raw_names.as_ptr(),
                self.outputs.raw_names.len(),
                self.outputs.raw_values.as_mut_ptr(),
            )
        };
        check(status).map_err(|reason| RunError { reason })
    }
}

impl Side {
    fn new(tensors: &[TensorInfo]) -> Result<Self, String> {
        let memory = MemoryInfo::cpu()?;
        let buffers: Vec<Buffer> = tensors.iter().map(|info| Buffer::zeroed(info.bytes())).collect();
        let values =
            tensors.iter().zip(&buffers).map(|(info, buffer)| Value::over(buffer, info, &memory)).collect::<Result<Vec<_>, _>>()?;
        let names =
            tensors.iter().map(|info| CString::new(&*info.name)).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        Ok(Self {
            raw_values: values.iter().map(Value::as_ptr).collect(),
            raw_names: names.iter().map(|name| name.as_ptr()).collect(),
            _values: values,
            _names: names,
            _buffers: buffers,
        })
    }
}
