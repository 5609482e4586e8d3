//! The text of a failed call.

use core::cell::RefCell;
use core::ffi::c_char;
use core::fmt::{self, Write};

/// Longer texts are cut; a fixed size lets the driving step fail without allocating.
const TEXT_MAX: usize = 512;

struct LastError {
    length: usize,
    bytes: [u8; TEXT_MAX],
}

thread_local! {
    static LAST: RefCell<LastError> = const { RefCell::new(LastError { length: 0, bytes: [0; TEXT_MAX] }) };
}

impl Write for LastError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let cut = text.floor_char_boundary(TEXT_MAX - self.length);
        self.bytes[self.length..self.length + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.length += cut;
        if cut == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Keeps the text of an error, with its causes, for this thread.
pub(crate) fn remember(error: &dyn core::error::Error) {
    // During the end of a thread there is nobody left to ask for the text.
    let _ = LAST.try_with(|last| {
        let mut last = last.borrow_mut();
        last.length = 0;
        let mut written = write!(last, "{error}");
        let mut source = error.source();
        while let (Ok(()), Some(cause)) = (written, source) {
            written = write!(last, ": {cause}");
            source = cause.source();
        }
    });
}

/// Copies the text of the calling thread's last failed call into `buffer`.
///
/// Returns the length of the whole text in bytes, without the closing zero; 0 when no call of this thread has failed yet. At most `capacity` bytes
/// are written, the closing zero included, so a result that is not less than `capacity` means that the text was cut. `buffer` may be NULL
/// when `capacity` is 0, to ask for the length. The text is UTF-8, one line, at most 512 bytes, and holds no secret. A call that succeeds
/// leaves it as it is.
///
/// Any thread; each has a text of its own. Never blocks.
///
/// # Safety
/// `buffer` points to `capacity` writable bytes, or is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn swb_last_error(buffer: *mut c_char, capacity: usize) -> usize {
    LAST.try_with(|last| {
        let last = last.borrow();
        if !buffer.is_null() && capacity > 0 {
            let text = &last.bytes[..last.length];
            let cut = core::str::from_utf8(text).map_or(0, |text| text.floor_char_boundary(capacity - 1));
            // SAFETY: *pointer*: the caller owns `capacity` bytes, and `cut` is less than that; the source is this thread's.
            unsafe {
                core::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, cut);
                buffer.add(cut).write(0);
            }
        }
        last.length
    })
    .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Text(String);

    fn ask(capacity: usize) -> (usize, Vec<u8>) {
        let mut buffer = vec![b'?' as c_char; capacity];
        // SAFETY: the buffer has that capacity.
        let length = unsafe { swb_last_error(buffer.as_mut_ptr(), capacity) };
        (length, buffer.into_iter().map(|byte| byte as u8).collect())
    }

    #[test]
    fn a_text_longer_than_the_buffer_is_cut_at_a_character() {
        remember(&Text("aé".to_owned()));
        assert_eq!(ask(8), (3, b"a\xc3\xa9\0????".to_vec()));
        assert_eq!(ask(3), (3, b"a\0?".to_vec()));
        assert_eq!(ask(1), (3, b"\0".to_vec()));
        assert_eq!(ask(0).0, 3);
    }

    #[test]
    fn a_text_longer_than_the_memory_for_it_is_cut_at_a_character() {
        remember(&Text("é".repeat(400)));
        assert_eq!(ask(0).0, 512);
        remember(&Text(format!("x{}", "é".repeat(400))));
        assert_eq!(ask(0).0, 511);
    }
}
