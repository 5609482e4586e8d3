//! Golden inputs in, golden outputs expected.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use switchback_onnx::{ElementType as OnnxElement, Session, TensorInfo};
use switchback_signing::bundle::contract::{Acceptance, Contract, ElementType};

use super::ModelFiles;
use super::error::{Refusal, SelfTestError};
use super::load::member;
use crate::drive::{Model, onnx_element, value_at};

/// Largest file of golden values. A case of ten 8-megapixel cameras is 240 MiB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Runs every case of the manifest in order, the recurrent state carried from one to the next, and compares.
pub(super) fn run(model: &mut Model, files: &ModelFiles) -> Result<(), Refusal> {
    let plan = &files.manifest.self_test;
    let (inputs, outputs) = (member(&files.directory, &plan.inputs)?, member(&files.directory, &plan.outputs)?);
    let (input_bytes, output_bytes) = (read(&inputs)?, read(&outputs)?);
    let (golden_inputs, golden_outputs) = (parse(&inputs, &input_bytes)?, parse(&outputs, &output_bytes)?);
    if plan.cases == 0 {
        return Err(SelfTestError::NoCase.into());
    }
    let session = model.session_mut();
    session.reset_recurrent();
    for case in 0..plan.cases {
        fill(session, case, &golden_inputs)?;
        session.run().map_err(|source| SelfTestError::Run { case, source })?;
        compare(session, case, &golden_outputs, &files.manifest.contract)?;
    }
    session.reset_recurrent();
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, SelfTestError> {
    let unreadable = |source| SelfTestError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(SelfTestError::Malformed { path: path.to_owned(), reason: format!("it is larger than {FILE_BYTES_MAX} bytes") });
    }
    Ok(bytes)
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, SelfTestError> {
    SafeTensors::deserialize(bytes).map_err(|error| SelfTestError::Malformed { path: path.to_owned(), reason: error.to_string() })
}

fn fill(session: &mut Session, case: u32, golden: &SafeTensors<'_>) -> Result<(), SelfTestError> {
    let count = session.inputs().len();
    for index in 0..count {
        if session.recurrent().iter().any(|&(input, _)| input == index) {
            continue;
        }
        let bytes = match session.inputs().nth(index) {
            Some(info) => golden_bytes(golden, case, info)?,
            None => continue,
        };
        session.input_mut(index).copy_from_slice(bytes);
    }
    Ok(())
}

fn compare(session: &Session, case: u32, golden: &SafeTensors<'_>, contract: &Contract) -> Result<(), SelfTestError> {
    for output in &contract.outputs {
        let Some((index, info)) = session.outputs().enumerate().find(|(_, info)| info.name == output.tensor) else { continue };
        let expected = golden_bytes(golden, case, info)?;
        let tolerance = tolerance(&contract.acceptance, &output.tensor);
        let found = session.output(index);
        for element in 0..info.elements() {
            let (expected, found) = (value_at(output.dtype, expected, element), value_at(output.dtype, found, element));
            let difference = (found - expected).abs();
            if difference.is_nan() || difference > tolerance_for(output.dtype, tolerance) {
                return Err(SelfTestError::Differs { case, tensor: info.name.clone(), element, expected, found, tolerance });
            }
        }
    }
    Ok(())
}

fn tolerance(acceptance: &Acceptance, tensor: &str) -> f32 {
    acceptance.tolerance.get(tensor).copied().unwrap_or(acceptance.default_tolerance)
}

/// Tokens are compared exactly: the neighbor of a word's number is another word.
fn tolerance_for(element: ElementType, tolerance: f32) -> f32 {
    match element {
        ElementType::I32 | ElementType::I64 => 0.0,
        ElementType::U8 | ElementType::F16 | ElementType::Bf16 | ElementType::F32 => tolerance,
    }
}

fn golden_bytes<'a>(golden: &SafeTensors<'a>, case: u32, info: &TensorInfo) -> Result<&'a [u8], SelfTestError> {
    let tensor =
        golden.tensor(&format!("{case}/{}", info.name)).map_err(|_| SelfTestError::TensorMissing { case, tensor: info.name.clone() })?;
    if (onnx_type(tensor.dtype()), tensor.shape()) != (Some(info.element_type), &info.shape) {
        return Err(SelfTestError::TensorDiffers {
            case,
            tensor: info.name.clone(),
            expected: format!("{} {:?}", info.element_type, info.shape),
            found: format!("{:?} {:?}", tensor.dtype(), tensor.shape()),
        });
    }
    Ok(tensor.data())
}

fn onnx_type(dtype: Dtype) -> Option<OnnxElement> {
    Some(onnx_element(match dtype {
        Dtype::U8 => ElementType::U8,
        Dtype::I32 => ElementType::I32,
        Dtype::I64 => ElementType::I64,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::Bf16,
        Dtype::F32 => ElementType::F32,
        _ => return None,
    }))
}
