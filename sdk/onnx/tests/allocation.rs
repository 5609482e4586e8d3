//! A run allocates nothing of ours. A program of its own, because it counts for the whole process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use switchback_onnx::ElementType::F32;
use switchback_onnx::model_builder::ModelBuilder;
use switchback_onnx::{RecurrentPair, Runtime, Session, SessionOptions};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator; counting touches a `Cell` that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise about both is passed on.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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

    let before = CALLS.get();
    let boxed = std::hint::black_box(Box::new(1_u8));
    drop(boxed);
    assert_eq!(CALLS.get() - before, 2, "the counter counts");

    let before = CALLS.get();
    for _ in 0..1000 {
        session.input_as_mut::<f32>(0).unwrap().fill(0.5);
        session.run().unwrap();
    }
    assert_eq!(CALLS.get() - before, 0);
    assert_eq!(session.output_as::<f32>(0).unwrap(), [500.0; 16]);
}
