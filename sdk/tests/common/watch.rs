//! What the library's threads say in their log, for the tests that must do something in a certain moment.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Debug;
use std::sync::{Mutex, Once};
use std::thread;

use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

struct Watch {
    /// The log is the process's and all tests write to it: threads are told apart by names of the test's choice.
    thread: String,
    words: &'static str,
    action: Box<dyn FnOnce() + Send>,
}

static WATCHES: Mutex<Vec<Watch>> = Mutex::new(Vec::new());

/// Does `action` on the thread of that name, once, in the moment in which it says these words.
pub(crate) fn when_said(thread: &str, words: &'static str, action: impl FnOnce() + Send + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Log).unwrap());
    WATCHES.lock().unwrap().push(Watch { thread: thread.to_owned(), words, action: Box::new(action) });
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut said = String::new();
        event.record(&mut |_: &Field, value: &dyn Debug| said.push_str(&format!("{value:?};")));
        let mut watches = WATCHES.lock().unwrap();
        let ours = |watch: &Watch| thread::current().name() == Some(&watch.thread) && said.contains(watch.words);
        let found = watches.iter().position(ours).map(|at| watches.remove(at));
        drop(watches);
        if let Some(watch) = found {
            (watch.action)();
        }
    }
}
