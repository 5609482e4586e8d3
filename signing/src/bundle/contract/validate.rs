//! Whether a contract makes sense, before anything relies on it.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Debug;

use super::{
    Acceptance, CameraSource, Color, Contract, ElementType, Envelope, Input, InputSource, Layout, Output, OutputMeaning, Platform,
    RuntimeRange, SignalSource, TrajectoryField,
    limits::{
        CAMERA_ID_MAX, ELEMENTS_MAX, FEATURES_MAX, FRAMES_MAX, HISTORY_MAX, MEMORY_MIB_MAX, RANK_MAX, SIGNAL_NAME_MAX, STEP_MS_MAX,
        TENSOR_NAME_MAX, TENSORS_MAX, TRAJECTORY_POINTS_MAX, VOCABULARY_MAX,
    },
};
use crate::bundle::BundleError;

impl Contract {
    /// Checks everything that can be known without the model's graph.
    ///
    /// # Errors
    /// `ContractVersion` for a version that is not known here; `Contract` with the field, what was found and what is expected.
    pub fn validate(&self) -> Result<(), BundleError> {
        Self::check_version(self.contract_version)?;
        self.check_tensors()?;
        self.inputs.iter().try_for_each(check_input)?;
        self.outputs.iter().try_for_each(check_output)?;
        self.check_platform()?;
        check_distinct_names("features", self.features.iter().map(String::as_str), FEATURES_MAX)?;
        self.runtime.validate()?;
        check_range("memory_mib", self.memory_mib, 1, MEMORY_MIB_MAX)?;
        check_range("deadline_ms", self.deadline_ms, 1, STEP_MS_MAX)?;
        check_range("step_ms", self.step_ms, 1, STEP_MS_MAX)?;
        if !(0.0..=1.0).contains(&self.confidence_min) {
            return Err(refuse("confidence_min", "0 to 1", self.confidence_min));
        }
        self.check_acceptance(&self.acceptance)
    }

    fn check_tensors(&self) -> Result<(), BundleError> {
        for (field, count, least) in
            [("inputs", self.inputs.len(), 1), ("outputs", self.outputs.len(), 1), ("recurrent", self.recurrent.len(), 0)]
        {
            if count < least || count > TENSORS_MAX {
                return Err(refuse(field, format!("{least} to {TENSORS_MAX} entries"), count));
            }
        }
        check_tensor_list("inputs", self.input_tensors())?;
        check_tensor_list("outputs", self.output_tensors())
    }

    fn check_platform(&self) -> Result<(), BundleError> {
        let count = |wanted: fn(&OutputMeaning) -> bool| self.outputs.iter().filter(|output| wanted(&output.meaning)).count();
        let trajectories = count(|meaning| matches!(meaning, OutputMeaning::Trajectory { .. }));
        let controls = count(|meaning| matches!(meaning, OutputMeaning::Control { .. }));
        let actions = count(|meaning| matches!(meaning, OutputMeaning::Actions { .. }));
        let confidences = count(|meaning| matches!(meaning, OutputMeaning::Confidence));
        for (meaning, found) in [
            ("trajectory", trajectories),
            ("control", controls),
            ("actions", actions),
            ("confidence", confidences),
            ("intent", count(|meaning| matches!(meaning, OutputMeaning::Intent { .. }))),
            ("language", count(|meaning| matches!(meaning, OutputMeaning::Language { .. }))),
        ] {
            if found > 1 {
                return Err(refuse("outputs", format!("at most one with the meaning `{meaning}`"), found));
            }
        }
        if self.confidence_min > 0.0 && confidences == 0 {
            return Err(refuse("confidence_min", "0 for a model without a confidence output", self.confidence_min));
        }
        match self.platform {
            Platform::RoadVehicle => {
                if trajectories + controls == 0 {
                    return Err(refuse("outputs", "a trajectory or a control output for a road vehicle", "neither"));
                }
                if actions > 0 {
                    return Err(refuse("outputs", "no actions output for a road vehicle", actions));
                }
                self.envelope.as_ref().ok_or_else(|| refuse("envelope", "present for a road vehicle", "absent"))?.validate()
            }
            Platform::Other => {
                if actions == 0 || trajectories + controls > 0 {
                    return Err(refuse("outputs", "one actions output and no trajectory or control for this platform", "another set"));
                }
                if self.envelope.is_some() {
                    return Err(refuse("envelope", "absent for a platform that is no road vehicle", "present"));
                }
                Ok(())
            }
        }
    }

    fn check_acceptance(&self, acceptance: &Acceptance) -> Result<(), BundleError> {
        for (tensor, &tolerance) in &acceptance.tolerance {
            let field = format!("acceptance.tolerance[{tensor}]");
            if !self.output_tensors().any(|output| output.name == tensor) {
                return Err(refuse(field, "the name of an output tensor", format!("{tensor:?}")));
            }
            check_at_least_zero(field, tolerance)?;
        }
        check_at_least_zero("acceptance.default_tolerance", acceptance.default_tolerance)?;
        check_positive("acceptance.shadow_lateral_max_m", acceptance.shadow_lateral_max_m)?;
        check_range("acceptance.shadow_frames", acceptance.shadow_frames, 0, FRAMES_MAX)?;
        // A trial ends when its last frame was answered: without a frame it never would.
        check_range("acceptance.trial_frames", acceptance.trial_frames, 1, FRAMES_MAX)
    }
}

impl RuntimeRange {
    fn validate(&self) -> Result<(), BundleError> {
        let least = parse_version("runtime.onnxruntime_min", &self.onnxruntime_min)?;
        let Some(below) = &self.onnxruntime_below else {
            return Ok(());
        };
        if parse_version("runtime.onnxruntime_below", below)? <= least {
            return Err(refuse("runtime.onnxruntime_below", format!("a version above {}", self.onnxruntime_min), below));
        }
        Ok(())
    }

    /// Whether this version of ONNX Runtime, such as `1.31.1`, is in the range. A version that cannot be read is not.
    pub fn contains(&self, version: &str) -> bool {
        let Ok(version) = parse_version("version", version) else {
            return false;
        };
        let least = parse_version("", &self.onnxruntime_min);
        let below = self.onnxruntime_below.as_deref().map(|below| parse_version("", below));
        least.is_ok_and(|least| least <= version) && below.is_none_or(|below| below.is_ok_and(|below| version < below))
    }
}

impl Envelope {
    fn validate(&self) -> Result<(), BundleError> {
        check_positive("envelope.acceleration_max_mps2", self.acceleration_max_mps2)?;
        check_positive("envelope.deceleration_max_mps2", self.deceleration_max_mps2)?;
        check_positive("envelope.lateral_acceleration_max_mps2", self.lateral_acceleration_max_mps2)?;
        check_positive("envelope.curvature_max_1pm", self.curvature_max_1pm)?;
        check_positive("envelope.jerk_max_mps3", self.jerk_max_mps3)?;
        check_positive("envelope.speed_max_mps", self.speed_max_mps)
    }
}

fn check_tensor_list<'a>(list: &str, tensors: impl Iterator<Item = super::Tensor<'a>>) -> Result<(), BundleError> {
    let mut names = BTreeSet::new();
    for tensor in tensors {
        let field = |part: &str| format!("{list}[{}].{part}", tensor.name);
        if tensor.name.is_empty() || tensor.name.len() > TENSOR_NAME_MAX || tensor.name.chars().any(char::is_control) {
            return Err(refuse(
                field("tensor"),
                format!("1 to {TENSOR_NAME_MAX} bytes without control characters"),
                format!("{:?}", tensor.name),
            ));
        }
        if !names.insert(tensor.name) {
            return Err(refuse(field("tensor"), "a tensor that is listed once", format!("{:?}", tensor.name)));
        }
        if tensor.shape.is_empty() || tensor.shape.len() > RANK_MAX {
            return Err(refuse(field("shape"), format!("1 to {RANK_MAX} dimensions"), tensor.shape.len()));
        }
        let elements = tensor.shape.iter().try_fold(1_u64, |elements, &dimension| elements.checked_mul(dimension.into()));
        if !elements.is_some_and(|elements| (1..=ELEMENTS_MAX).contains(&elements)) {
            return Err(refuse(field("shape"), format!("1 to {ELEMENTS_MAX} elements"), format!("{:?}", tensor.shape)));
        }
    }
    Ok(())
}

fn check_input(input: &Input) -> Result<(), BundleError> {
    let place = format!("inputs[{}]", input.tensor);
    match &input.source {
        InputSource::Camera(camera) => check_camera(&place, input, camera),
        InputSource::Ego { fields } => check_vector(&place, input, fields),
        InputSource::Route { fields } => check_vector(&place, input, fields),
        InputSource::Driver { fields } => check_vector(&place, input, fields),
        InputSource::Signals { signals } => check_signals(&place, input, signals),
    }
}

fn check_camera(place: &str, input: &Input, camera: &CameraSource) -> Result<(), BundleError> {
    if camera.camera_id > CAMERA_ID_MAX {
        return Err(refuse(format!("{place}.camera_id"), format!("at most {CAMERA_ID_MAX}"), camera.camera_id));
    }
    if camera.history == 0 || camera.history > HISTORY_MAX {
        return Err(refuse(format!("{place}.history"), format!("1 to {HISTORY_MAX}"), camera.history));
    }
    match input.dtype {
        ElementType::U8 | ElementType::F16 | ElementType::F32 => {}
        ElementType::I32 | ElementType::I64 | ElementType::Bf16 => {
            return Err(refuse(format!("{place}.dtype"), "u8, f16 or f32 for a camera", input.dtype));
        }
    }
    let channels = match camera.color {
        Color::Rgb | Color::Bgr => 3,
        Color::Gray => 1,
    };
    let stacked = channels * camera.history;
    let (fits, expected) = match (camera.layout, input.shape.as_slice()) {
        (Layout::Nchw, &[batch, found, _, _]) => (batch == 1 && found == stacked, format!("[1, {stacked}, height, width]")),
        (Layout::Nhwc, &[batch, _, _, found]) => (batch == 1 && found == stacked, format!("[1, height, width, {stacked}]")),
        (Layout::Nchw | Layout::Nhwc, _) => (false, "four dimensions for a camera".into()),
    };
    if !fits {
        return Err(refuse(format!("{place}.shape"), expected, format!("{:?}", input.shape)));
    }
    let Some(normalization) = &camera.normalization else {
        return Ok(());
    };
    let field = format!("{place}.normalization");
    if !input.dtype.is_float() {
        return Err(refuse(field, "absent for an integer tensor", "present"));
    }
    let (mean, std) = (&normalization.mean, &normalization.std);
    if mean.len() != channels as usize || std.len() != channels as usize {
        return Err(refuse(
            field,
            format!("{channels} means and {channels} standard deviations"),
            format!("{} and {}", mean.len(), std.len()),
        ));
    }
    if !mean.iter().chain(std).all(|value| value.is_finite()) || std.contains(&0.0) {
        return Err(refuse(field, "finite numbers, no standard deviation of zero", format!("{mean:?} and {std:?}")));
    }
    Ok(())
}

/// A tensor whose last dimension holds named fields: `[1, ..., 1, fields]`.
fn check_vector<F: PartialEq + Debug>(place: &str, input: &Input, fields: &[F]) -> Result<(), BundleError> {
    check_float(place, input.dtype)?;
    check_distinct(format!("{place}.fields"), fields)?;
    check_last_dimension(place, &input.shape, fields.len())
}

fn check_signals(place: &str, input: &Input, signals: &[SignalSource]) -> Result<(), BundleError> {
    check_float(place, input.dtype)?;
    check_distinct_names(format!("{place}.signals"), signals.iter().map(|signal| signal.name.as_str()), usize::MAX)?;
    if let Some(signal) = signals.iter().find(|signal| signal.default.is_some_and(|default| !default.is_finite())) {
        return Err(refuse(format!("{place}.signals[{}].default", signal.name), "a finite number", format!("{:?}", signal.default)));
    }
    check_last_dimension(place, &input.shape, signals.len())
}

fn check_output(output: &Output) -> Result<(), BundleError> {
    let place = format!("outputs[{}]", output.tensor);
    match &output.meaning {
        OutputMeaning::Trajectory { step_s, fields } => check_trajectory(&place, output, *step_s, fields),
        OutputMeaning::Control { fields } => {
            check_float(&place, output.dtype)?;
            check_distinct(format!("{place}.fields"), fields)?;
            check_row(&place, &output.shape, fields.len())
        }
        OutputMeaning::Confidence => {
            check_float(&place, output.dtype)?;
            check_row(&place, &output.shape, 1)
        }
        OutputMeaning::Intent { classes } => {
            check_float(&place, output.dtype)?;
            check_distinct(format!("{place}.classes"), classes)?;
            check_row(&place, &output.shape, classes.len())
        }
        OutputMeaning::Language { vocabulary } => check_language(&place, output, vocabulary),
        OutputMeaning::Actions { actions } => {
            check_float(&place, output.dtype)?;
            check_distinct_names(format!("{place}.actions"), actions.iter().map(|action| action.name.as_str()), usize::MAX)?;
            let illegal = |min: f32, max: f32| !(min.is_finite() && max.is_finite() && min < max);
            if let Some(action) = actions.iter().find(|action| illegal(action.min, action.max)) {
                let found = format!("{} and {}", action.min, action.max);
                return Err(refuse(format!("{place}.actions[{}]", action.name), "finite limits, the smaller one first", found));
            }
            check_row(&place, &output.shape, actions.len())
        }
    }
}

fn check_trajectory(place: &str, output: &Output, step_s: f32, fields: &[TrajectoryField]) -> Result<(), BundleError> {
    check_float(place, output.dtype)?;
    check_positive(format!("{place}.step_s"), step_s)?;
    check_distinct(format!("{place}.fields"), fields)?;
    if !fields.contains(&TrajectoryField::XM) || !fields.contains(&TrajectoryField::YM) {
        return Err(refuse(format!("{place}.fields"), "`x_m` and `y_m` among them", format!("{fields:?}")));
    }
    match output.shape.as_slice() {
        &[1, 1..=TRAJECTORY_POINTS_MAX, last] if last as usize == fields.len() => Ok(()),
        shape => {
            let expected = format!("[1, points, {}] with at most {TRAJECTORY_POINTS_MAX} points", fields.len());
            Err(refuse(format!("{place}.shape"), expected, format!("{shape:?}")))
        }
    }
}

fn check_language(place: &str, output: &Output, vocabulary: &[String]) -> Result<(), BundleError> {
    match output.dtype {
        ElementType::I32 | ElementType::I64 => {}
        ElementType::U8 | ElementType::F16 | ElementType::Bf16 | ElementType::F32 => {
            return Err(refuse(format!("{place}.dtype"), "i32 or i64 for language", output.dtype));
        }
    }
    if vocabulary.is_empty() || vocabulary.len() > VOCABULARY_MAX {
        return Err(refuse(format!("{place}.vocabulary"), format!("1 to {VOCABULARY_MAX} words"), vocabulary.len()));
    }
    match output.shape.as_slice() {
        &[1, _] => Ok(()),
        shape => Err(refuse(format!("{place}.shape"), "[1, tokens]", format!("{shape:?}"))),
    }
}

fn check_float(place: &str, dtype: ElementType) -> Result<(), BundleError> {
    if dtype.is_float() { Ok(()) } else { Err(refuse(format!("{place}.dtype"), "a floating-point type", dtype)) }
}

/// `[1, count]`.
fn check_row(place: &str, shape: &[u32], count: usize) -> Result<(), BundleError> {
    match shape {
        &[1, last] if last as usize == count => Ok(()),
        _ => Err(refuse(format!("{place}.shape"), format!("[1, {count}]"), format!("{shape:?}"))),
    }
}

/// `[1, ..., count]`.
fn check_last_dimension(place: &str, shape: &[u32], count: usize) -> Result<(), BundleError> {
    match shape {
        [ones @ .., last] if *last as usize == count && ones.iter().all(|&dimension| dimension == 1) => Ok(()),
        _ => Err(refuse(format!("{place}.shape"), format!("{count} in the last dimension and 1 before it"), format!("{shape:?}"))),
    }
}

fn check_distinct<F: PartialEq + Debug>(field: String, values: &[F]) -> Result<(), BundleError> {
    if values.is_empty() {
        return Err(refuse(field, "at least one", "none"));
    }
    match values.iter().enumerate().find(|(number, value)| values[..*number].contains(value)) {
        None => Ok(()),
        Some((_, twice)) => Err(refuse(field, "each at most once", format!("{twice:?} twice"))),
    }
}

/// Names that people and programs type: `[A-Za-z0-9_.-]`, not empty, each once.
fn check_distinct_names<'a>(field: impl Into<String>, names: impl Iterator<Item = &'a str>, count_max: usize) -> Result<(), BundleError> {
    let field = field.into();
    let names: Vec<&str> = names.collect();
    if names.len() > count_max {
        return Err(refuse(field, format!("at most {count_max} entries"), names.len()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() || name.len() > SIGNAL_NAME_MAX || !name.bytes().all(legal) {
            return Err(refuse(field, format!("names of 1 to {SIGNAL_NAME_MAX} of [A-Za-z0-9_.-]"), format!("{name:?}")));
        }
        if !seen.insert(name) {
            return Err(refuse(field, "each at most once", format!("{name:?} twice")));
        }
    }
    Ok(())
}

fn check_range(field: &str, found: u32, least: u32, most: u32) -> Result<(), BundleError> {
    if (least..=most).contains(&found) { Ok(()) } else { Err(refuse(field, format!("{least} to {most}"), found)) }
}

fn check_positive(field: impl Into<String>, found: f32) -> Result<(), BundleError> {
    if found.is_finite() && found > 0.0 { Ok(()) } else { Err(refuse(field, "a finite number above 0", found)) }
}

fn check_at_least_zero(field: impl Into<String>, found: f32) -> Result<(), BundleError> {
    if found.is_finite() && found >= 0.0 { Ok(()) } else { Err(refuse(field, "a finite number of at least 0", found)) }
}

/// Two or three numbers joined by dots.
fn parse_version(field: &str, text: &str) -> Result<[u32; 3], BundleError> {
    let illegal = || refuse(field, "a version such as `1.23` or `1.23.2`", format!("{text:?}"));
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten().ok_or_else(illegal)
    };
    let parts: Vec<&str> = text.split('.').collect();
    match parts.as_slice() {
        [major, minor] => Ok([number(major)?, number(minor)?, 0]),
        [major, minor, patch] => Ok([number(major)?, number(minor)?, number(patch)?]),
        _ => Err(illegal()),
    }
}

fn refuse(field: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> BundleError {
    BundleError::Contract { field: field.into(), expected: expected.into(), found: found.to_string() }
}
