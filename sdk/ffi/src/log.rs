//! From the SDK's `tracing` events to the log callbacks of the vehicles that are open.

use core::fmt::{self, Write};
use std::sync::{Once, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::callbacks::{Callbacks, SWB_LOG_DEBUG, SWB_LOG_ERROR, SWB_LOG_INFO, SWB_LOG_WARN};

/// Where lines go. Events do not say which vehicle they are about, so each log receives the lines of all vehicles of the process.
static SINKS: RwLock<Vec<Sink>> = RwLock::new(Vec::new());

struct Sink {
    id: u64,
    level_max: u32,
    callbacks: Callbacks,
}

/// A log callback in use. Dropping it waits until no thread is inside the callback, and no line reaches it afterwards.
pub(crate) struct LogSubscription {
    id: u64,
}

impl LogSubscription {
    pub(crate) fn new(callbacks: Callbacks, level_max: u32) -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            // Refused only where a program in Rust linked the static library and has a subscriber of its own: that one gets the lines.
            let _ = tracing::subscriber::set_global_default(ToSinks);
        });
        let mut sinks = SINKS.write().unwrap_or_else(PoisonError::into_inner);
        let id = sinks.iter().map(|sink| sink.id + 1).max().unwrap_or(0);
        sinks.push(Sink { id, level_max, callbacks });
        Self { id }
    }
}

impl Drop for LogSubscription {
    fn drop(&mut self) {
        SINKS.write().unwrap_or_else(PoisonError::into_inner).retain(|sink| sink.id != self.id);
    }
}

struct ToSinks;

impl Subscriber for ToSinks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries below the SDK would fill the log with the workings of HTTP.
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("switchback")
    }

    fn event(&self, event: &Event<'_>) {
        let level = number(*event.metadata().level());
        let sinks = SINKS.read().unwrap_or_else(PoisonError::into_inner);
        if sinks.iter().all(|sink| sink.level_max < level) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let text = line.text();
        for sink in sinks.iter().filter(|sink| sink.level_max >= level) {
            sink.callbacks.log(level, &text);
        }
    }

    // Spans are not told: a line says by itself what it is about.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => SWB_LOG_ERROR,
        Level::WARN => SWB_LOG_WARN,
        Level::INFO => SWB_LOG_INFO,
        _ => SWB_LOG_DEBUG,
    }
}

/// The message of an event, then its fields as ` name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    /// One line, whatever a server or a file name may have put into it.
    fn text(self) -> String {
        (self.message + &self.fields).replace(|character: char| character.is_control(), " ")
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a `String` does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use core::ffi::{c_char, c_void};
    use std::sync::Mutex;

    use super::*;

    /// Keeps what it is given in the `Mutex<Vec<..>>` that `userdata` points to.
    unsafe extern "C" fn keep(userdata: *mut c_void, level: u32, text: *const c_char, text_len: usize) {
        // SAFETY: the test passes a list that outlives the subscription, and a text of that length.
        let (lines, text) =
            unsafe { (&*userdata.cast::<Mutex<Vec<(u32, String)>>>(), core::slice::from_raw_parts(text.cast::<u8>(), text_len)) };
        lines.lock().unwrap_or_else(PoisonError::into_inner).push((level, String::from_utf8_lossy(text).into_owned()));
    }

    #[test]
    fn a_line_is_the_message_and_its_fields_and_none_comes_after_the_end() {
        let lines = Mutex::new(Vec::<(u32, String)>::new());
        let callbacks = Callbacks {
            userdata: (&raw const lines).cast_mut().cast(),
            log: Some(keep),
            clock: None,
            consent: None,
            vehicle_state: None,
            network: None,
        };
        let subscription = LogSubscription::new(callbacks, SWB_LOG_INFO);
        tracing::warn!(release = %"vla 2.0", bytes = 7, "two\nlines");
        tracing::debug!("below the level");
        drop(subscription);
        tracing::error!("after the end");
        assert_eq!(*lines.lock().unwrap_or_else(PoisonError::into_inner), [(SWB_LOG_WARN, "two lines release=vla 2.0 bytes=7".to_owned())]);
    }
}
