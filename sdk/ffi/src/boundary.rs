//! No panic crosses into C: unwinding through a foreign frame is undefined, and a defect in an update must not end the driving program.

use core::any::Any;
use core::cell::Cell;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use crate::last_error;
use crate::result::{Refusal, SWB_OK};

/// Runs a function of the header. Its error becomes the thread's text and a number.
pub(crate) fn enter(body: impl FnOnce() -> Result<(), Refusal>) -> i32 {
    match guard(body) {
        Ok(()) => SWB_OK,
        Err(refusal) => {
            last_error::remember(&refusal);
            refusal.number()
        }
    }
}

/// Turns a panic into an error. What `body` was changing may be half changed: the caller poisons the handle.
pub(crate) fn guard<T>(body: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = panic_text(&*payload);
        // A payload of a foreign type could panic again while it is dropped.
        core::mem::forget(payload);
        Err(Refusal::Panic { text })
    })
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function of the program's. Until it returns, this thread may not call functions that work on a vehicle.
pub(crate) fn call_back<T>(call: impl FnOnce() -> T) -> T {
    let outer = IN_CALLBACK.replace(true);
    let answer = call();
    IN_CALLBACK.set(outer);
    answer
}

/// An error on a thread that is inside a callback: the vehicle waits for the callback's answer, so the call could wait for itself.
pub(crate) fn outside_callbacks() -> Result<(), Refusal> {
    if IN_CALLBACK.get() { Err(Refusal::InCallback) } else { Ok(()) }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "panic without a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{SWB_ERROR_NULL, SWB_ERROR_PANIC};

    #[test]
    fn a_panic_becomes_a_number() {
        assert_eq!(enter(|| panic!("with {}", 1)), SWB_ERROR_PANIC);
        assert_eq!(enter(|| std::panic::panic_any(7_u8)), SWB_ERROR_PANIC);
    }

    #[test]
    fn a_callback_may_not_call_in_and_its_thread_may_afterwards() {
        call_back(|| {
            call_back(|| ());
            assert!(matches!(outside_callbacks(), Err(Refusal::InCallback)), "also after a callback within it");
        });
        assert!(outside_callbacks().is_ok());
    }

    #[test]
    fn an_error_becomes_its_number_and_success_zero() {
        assert_eq!(enter(|| Err(Refusal::Null { what: "x" })), SWB_ERROR_NULL);
        assert_eq!(enter(|| Ok(())), SWB_OK);
    }
}
