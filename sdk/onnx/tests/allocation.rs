//! A run allocates nothing of ours. A program of its own, because it counts for the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use switchback_onnx::ElementType::F32;
use switchback_onnx::counting::CountingAllocator;
use switchback_onnx::model_builder::ModelBuilder;
use switchback_onnx::{RecurrentPair, Runtime, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_run_neither_allocates_nor_frees() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.onnx");
    let model = ModelBuilder::new().input("x", F32, &[16]).input("state", F32, &[16]).output("state_next", F32, &[16]).node(
        "Add",
        &["x", "state"],
        &["state_next"],
    );
    std::fs::write(&path, model.build()).unwrap();
    let pair = RecurrentPair { input: "state".to_owned(), output: "state_next".to_owned() };
    let options = SessionOptions { recurrent: vec![pair], ..Default::default() };
    let mut session = Session::open(&Runtime::load(None).unwrap(), &path, &options).unwrap();

    let before = CountingAllocator::calls();
    let boxed = std::hint::black_box(Box::new(1_u8));
    drop(boxed);
    assert_eq!(CountingAllocator::calls() - before, 2, "the counter counts");

    let before = CountingAllocator::calls();
    for _ in 0..1000 {
        session.input_as_mut::<f32>(0).unwrap().fill(0.5);
        session.run().unwrap();
    }
    assert_eq!(CountingAllocator::calls() - before, 0);
    assert_eq!(session.output_as::<f32>(0).unwrap(), [500.0; 16]);
}
