//! Sessions at their boundary: small models are written, opened and run.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use switchback_onnx::ElementType::{F16, F32, I64, U8};
use switchback_onnx::model_builder::{Attribute, Dimension, ModelBuilder};
use switchback_onnx::{OpenError, Optimization, Prepacking, RecurrentPair, Runtime, RuntimeError};
use switchback_onnx::{Session, SessionOptions};
use tempfile::TempDir;

fn runtime() -> Runtime {
    Runtime::load(None).expect("sdk/onnx/get-onnxruntime.sh provides the library")
}

fn written(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    (directory, path)
}

fn open(model: &ModelBuilder, options: &SessionOptions) -> Result<Session, OpenError> {
    let (_directory, path) = written(&model.build());
    Session::open(&runtime(), &path, options)
}

fn pair(input: &str, output: &str) -> RecurrentPair {
    RecurrentPair { input: input.to_owned(), output: output.to_owned() }
}

fn doubling() -> ModelBuilder {
    ModelBuilder::new().input("x", F32, &[1, 4]).output("y", F32, &[1, 4]).f32s("two", &[], &[2.0]).node("Mul", &["x", "two"], &["y"])
}

/// state' = state + x, y = state' * 1.
fn summing() -> ModelBuilder {
    ModelBuilder::new()
        .input("x", F32, &[2])
        .input("state", F32, &[2])
        .output("y", F32, &[2])
        .output("state_next", F32, &[2])
        .node("Add", &["x", "state"], &["state_next"])
        .node("Identity", &["state_next"], &["y"])
}

/// y = table[index], which fails while running when the index is not in the table.
fn lookup() -> ModelBuilder {
    ModelBuilder::new()
        .input("index", I64, &[1])
        .input("state", F32, &[1])
        .output("y", F32, &[1])
        .output("state_next", F32, &[1])
        .f32s("table", &[3], &[10.0, 20.0, 30.0])
        .f32s("one", &[1], &[1.0])
        .node_with("Gather", &["table", "index"], &["y"], &[("axis", Attribute::Int(0))])
        .node("Add", &["state", "one"], &["state_next"])
}

fn message_of(result: Result<Session, OpenError>) -> (u16, String) {
    let error = result.expect_err("the model must be refused");
    (error.number(), error.to_string())
}

#[test]
fn a_model_runs_on_its_own_buffers() {
    let mut session = open(&doubling(), &SessionOptions::default()).unwrap();
    let input = session.inputs().next().unwrap().clone();
    assert_eq!((input.name.as_str(), input.element_type, input.shape), ("x", F32, vec![1, 4]));
    assert_eq!((session.input_index("x"), session.input_index("y")), (Some(0), None));
    session.input_as_mut::<f32>(0).unwrap().copy_from_slice(&[1.0, -2.0, 0.5, 1e30]);
    session.run().unwrap();
    assert_eq!(session.output_as::<f32>(0).unwrap(), [2.0, -4.0, 1.0, 2e30]);
    assert_eq!(session.output(0).len(), 16);
    assert_eq!(session.input(0).as_ptr().addr() % 64, 0, "buffers are aligned for the widest vectors");
}

#[test]
fn every_option_computes_the_same() {
    for optimization in [Optimization::Disabled, Optimization::Basic, Optimization::All] {
        for prepacking in [Prepacking::On, Prepacking::Off] {
            let options = SessionOptions { intra_threads: 2, prepacking, optimization, ..Default::default() };
            let mut session = open(&doubling(), &options).unwrap();
            session.input_as_mut::<f32>(0).unwrap().fill(3.0);
            session.run().unwrap();
            assert_eq!(session.output_as::<f32>(0).unwrap(), [6.0; 4], "{options:?}");
        }
    }
}

#[test]
fn an_output_that_is_only_an_input_or_a_constant_reaches_its_buffer() {
    let model = ModelBuilder::new()
        .input("x", U8, &[3])
        .output("same", U8, &[3])
        .output("constant", F32, &[2])
        .f32s("weights", &[2], &[7.0, 8.0])
        .node("Identity", &["x"], &["same"])
        .node("Identity", &["weights"], &["constant"]);
    let mut session = open(&model, &SessionOptions::default()).unwrap();
    session.input_mut(0).copy_from_slice(&[9, 0, 255]);
    session.run().unwrap();
    assert_eq!(session.output(0), [9, 0, 255]);
    assert_eq!(session.output_as::<f32>(1).unwrap(), [7.0, 8.0]);
}

#[test]
fn the_same_input_twice_gives_the_same_bits() {
    let weights: Vec<f32> = (0..64 * 64).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 333.0).collect();
    let model = ModelBuilder::new()
        .input("x", F32, &[1, 64])
        .output("y", F32, &[1, 64])
        .f32s("w", &[64, 64], &weights)
        .node("MatMul", &["x", "w"], &["h"])
        .node("Tanh", &["h"], &["y"]);
    let mut one = open(&model, &SessionOptions::default()).unwrap();
    let mut other = open(&model, &SessionOptions::default()).unwrap();
    for session in [&mut one, &mut other] {
        let input = session.input_as_mut::<f32>(0).unwrap();
        input.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32).sin());
        session.run().unwrap();
    }
    let first = one.output(0).to_vec();
    assert_eq!(first, other.output(0));
    one.run().unwrap();
    assert_eq!(first, one.output(0));
    assert!(one.output_as::<f32>(0).unwrap().iter().any(|y| *y != 0.0));
}

#[test]
fn recurrent_state_is_carried_from_run_to_run_and_can_be_reset() {
    let options = SessionOptions { recurrent: vec![pair("state", "state_next")], ..Default::default() };
    let mut session = open(&summing(), &options).unwrap();
    assert_eq!(session.recurrent(), [(1, 1)]);
    for run in 1..=5_u8 {
        session.input_as_mut::<f32>(0).unwrap().copy_from_slice(&[1.0, 10.0]);
        session.run().unwrap();
        let expected = [f32::from(run), 10.0 * f32::from(run)];
        assert_eq!(session.output_as::<f32>(0).unwrap(), expected, "run {run}");
        assert_eq!(session.output_as::<f32>(1).unwrap(), expected, "the state itself, run {run}");
    }
    session.reset_recurrent();
    session.run().unwrap();
    // Inputs that were not written again keep their values, whichever side the state is on.
    assert_eq!(session.output_as::<f32>(0).unwrap(), [1.0, 10.0]);
    session.input_as_mut::<f32>(1).unwrap().fill(100.0);
    session.run().unwrap();
    assert_eq!(session.output_as::<f32>(0).unwrap(), [101.0, 110.0]);
}

#[test]
fn a_failed_run_says_why_and_leaves_the_state_as_it_was() {
    let options = SessionOptions { recurrent: vec![pair("state", "state_next")], ..Default::default() };
    let mut session = open(&lookup(), &options).unwrap();
    session.run().unwrap();
    session.input_as_mut::<i64>(0).unwrap()[0] = 99;
    let error = session.run().unwrap_err();
    assert_eq!(error.number(), 4040);
    assert!(error.reason.contains("indices element out of data bounds"), "{error}");
    session.input_as_mut::<i64>(0).unwrap()[0] = 2;
    session.run().unwrap();
    assert_eq!(session.output_as::<f32>(0).unwrap(), [30.0]);
    assert_eq!(session.output_as::<f32>(1).unwrap(), [2.0], "two successful runs, not three");
}

#[test]
fn a_view_of_the_wrong_type_is_refused() {
    let mut session = open(&doubling(), &SessionOptions::default()).unwrap();
    let error = session.input_as_mut::<u8>(0).unwrap_err();
    assert_eq!((error.number(), error.to_string().as_str()), (4041, "tensor 'x' holds f32, not u8"));
    assert_eq!(session.output_as::<i64>(0).unwrap_err().to_string(), "tensor 'y' holds f32, not i64");
}

#[test]
fn a_missing_model_is_named() {
    let missing = Path::new("/nowhere/model.onnx");
    let result = Session::open(&runtime(), missing, &SessionOptions::default());
    assert_eq!(message_of(result), (4020, "model /nowhere/model.onnx does not exist".to_owned()));
}

#[test]
fn a_damaged_model_is_refused_with_the_runtimes_words() {
    let whole = doubling().build();
    for (case, bytes) in [
        ("empty", Vec::new()),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("another format", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("unknown operator", doubling().node("Levitate", &["x"], &["z"]).build()),
    ] {
        let (_directory, path) = written(&bytes);
        let (number, text) = message_of(Session::open(&runtime(), &path, &SessionOptions::default()));
        assert_eq!(number, 4021, "{case}");
        assert!(text.starts_with(&format!("ONNX Runtime refused model {}: ", path.display())), "{case}: {text}");
        assert!(text.len() > path.as_os_str().len() + 40, "{case} gives no reason: {text}");
    }
}

#[test]
fn a_dynamic_dimension_is_refused_by_name_except_for_a_batch_in_front() {
    let shaped =
        |shape: &[Dimension<'_>]| ModelBuilder::new().input_with("x", F32, shape).output_with("y", F32, shape).node("Neg", &["x"], &["y"]);
    let mut session = open(&shaped(&[Dimension::Dynamic("batch"), Dimension::Fixed(3)]), &SessionOptions::default()).unwrap();
    assert_eq!(session.inputs().next().unwrap().shape, [1, 3]);
    session.input_as_mut::<f32>(0).unwrap().copy_from_slice(&[1.0, 2.0, 3.0]);
    session.run().unwrap();
    assert_eq!(session.output_as::<f32>(0).unwrap(), [-1.0, -2.0, -3.0]);

    let refused = open(&shaped(&[Dimension::Fixed(1), Dimension::Dynamic("time")]), &SessionOptions::default());
    let expected = "tensor 'x' has the dynamic dimension 'time' at position 1; only a batch dimension at \
                    position 0 may be dynamic, it is bound as 1";
    assert_eq!(message_of(refused), (4022, expected.to_owned()));
}

#[test]
fn empty_and_huge_shapes_are_refused_before_memory_is_taken() {
    for shape in [&[1, 0][..], &[1 << 20, 1 << 20]] {
        let model = ModelBuilder::new().input("x", F32, shape).output("y", F32, shape).node("Neg", &["x"], &["y"]);
        let expected = format!("tensor 'x' has the shape {shape:?}, which is empty or too large");
        assert_eq!(message_of(open(&model, &SessionOptions::default())), (4023, expected));
    }
}

#[test]
fn a_tensor_that_is_no_fixed_buffer_is_refused() {
    let words = ModelBuilder::new().input("x", F32, &[2]).output_inferred("words").node_with(
        "Cast",
        &["x"],
        &["words"],
        &[("to", Attribute::Int(8))],
    );
    let sequence = ModelBuilder::new().input("x", F32, &[2]).output_inferred("parts").node("SequenceConstruct", &["x"], &["parts"]);
    for (model, expected) in [
        (words, "tensor 'words' is of the unsupported type Tensor<String>(2)"),
        (sequence, "tensor 'parts' is of the unsupported type Sequence<Tensor<f32>()>"),
    ] {
        assert_eq!(message_of(open(&model, &SessionOptions::default())), (4024, expected.to_owned()));
    }
}

#[test]
fn a_recurrent_pair_must_exist_and_fit() {
    let with = |pairs: Vec<RecurrentPair>| message_of(open(&summing(), &SessionOptions { recurrent: pairs, ..Default::default() }));
    let check = |pairs, expected: &str| assert_eq!(with(pairs), (4025, expected.to_owned()));
    check(vec![pair("h", "state_next")], "recurrent pair 'state_next' -> 'h': the model has no such input");
    check(vec![pair("state", "h")], "recurrent pair 'h' -> 'state': the model has no such output");
    check(
        vec![pair("state", "state_next"), pair("x", "state_next")],
        "recurrent pair 'state_next' -> 'x': one of the two is already in another pair",
    );
    let model = ModelBuilder::new().input("state", F32, &[2]).output("half", F16, &[2]).node_with(
        "Cast",
        &["state"],
        &["half"],
        &[("to", Attribute::Int(10))],
    );
    let options = SessionOptions { recurrent: vec![pair("state", "half")], ..Default::default() };
    let expected = "recurrent pair 'half' -> 'state': the output is f16 [2], the input is f32 [2]";
    assert_eq!(message_of(open(&model, &options)), (4025, expected.to_owned()));
}

#[test]
fn a_session_may_move_to_another_thread() {
    let mut session = open(&doubling(), &SessionOptions::default()).unwrap();
    let session = std::thread::spawn(move || {
        session.input_as_mut::<f32>(0).unwrap().fill(21.0);
        session.run().unwrap();
        session
    });
    let session = session.join().unwrap();
    assert_eq!(session.output_as::<f32>(0).unwrap(), [42.0; 4]);
}

#[test]
fn one_process_has_one_runtime() {
    let first = runtime();
    let again = Runtime::load(Some(first.path())).unwrap();
    assert_eq!((first.path(), first.version()), (again.path(), again.version()));
    let error = Runtime::load(Some(Path::new("/other/libonnxruntime.so.1"))).unwrap_err();
    assert_eq!(error.number(), 4004);
    assert!(matches!(error, RuntimeError::OtherAlreadyOpen { .. }));
    assert!(error.to_string().ends_with("/other/libonnxruntime.so.1 cannot be opened beside it"), "{error}");
}
