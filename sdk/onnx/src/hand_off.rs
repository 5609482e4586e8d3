//! A place where a session changes its owner.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Holds at most one boxed value, which one thread offers and another takes, each by one atomic exchange.
///
/// Neither side ever waits, allocates or frees: the box itself moves. That is what lets the thread that drives take
/// over a new model between two frames, and give the old one back to be freed elsewhere.
///
/// ```
/// use switchback_onnx::HandOff;
///
/// let slot = HandOff::new();
/// assert!(slot.offer(Box::new(1)).is_ok());
/// assert_eq!(slot.offer(Box::new(2)), Err(Box::new(2)), "still full: the value comes back");
/// assert_eq!(slot.take(), Some(Box::new(1)));
/// assert_eq!(slot.take(), None);
/// ```
#[derive(Debug)]
pub struct HandOff<T> {
    slot: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

// SAFETY: the slot gives out a value only whole and only once, so sharing the slot between threads does no more than
// sending the values it holds.
unsafe impl<T: Send> Sync for HandOff<T> {}

impl<T> HandOff<T> {
    /// An empty slot.
    #[must_use]
    pub const fn new() -> Self {
        Self { slot: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// Puts `value` into the slot, or gives it back when the slot is full.
    ///
    /// # Errors
    /// The value itself, when nobody has taken the one before.
    pub fn offer(&self, value: Box<T>) -> Result<(), Box<T>> {
        let raw = Box::into_raw(value);
        // Release: whoever takes the pointer sees what we wrote behind it.
        match self.slot.compare_exchange(ptr::null_mut(), raw, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: `raw` came from `Box::into_raw` above, and the failed exchange published it to nobody.
            Err(_) => Err(unsafe { Box::from_raw(raw) }),
        }
    }

    /// Takes the value out of the slot, if there is one.
    pub fn take(&self) -> Option<Box<T>> {
        // Nearly every frame finds nothing; a plain load spares it the exchange.
        if self.slot.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let raw = self.slot.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: a pointer in the slot came from `Box::into_raw` in `offer`, and the exchange made us its only owner.
        NonNull::new(raw).map(|raw| unsafe { Box::from_raw(raw.as_ptr()) })
    }
}

impl<T> Default for HandOff<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for HandOff<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;
    use std::thread;

    use super::HandOff;

    #[test]
    fn every_value_arrives_whole_and_once() {
        let slot = Arc::new(HandOff::new());
        let sender = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                for number in 1..=10_000_u64 {
                    let mut value = Box::new([number; 32]);
                    while let Err(back) = slot.offer(value) {
                        value = back;
                        thread::yield_now();
                    }
                }
            })
        };
        let mut expected = 1;
        while expected <= 10_000 {
            match slot.take() {
                Some(value) => {
                    assert_eq!(*value, [expected; 32]);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().expect("the sender does not panic");
        assert_eq!(slot.take(), None);
    }

    #[test]
    fn a_value_that_nobody_takes_is_freed_with_the_slot() {
        let value = Arc::new(());
        let slot = HandOff::new();
        assert!(slot.offer(Box::new(Arc::clone(&value))).is_ok());
        drop(slot);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
