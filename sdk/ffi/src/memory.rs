//! Reading and writing structs whose size the caller states.
//!
//! A caller that was compiled with an older header owns fewer bytes than this library knows, one with a newer header more. Only bytes that
//! both know are copied; what the caller lacks reads as zero, which every field defines as its default.

use core::ffi::{CStr, c_char};
use core::mem::{MaybeUninit, size_of};
use core::ptr;

use crate::result::Refusal;

/// A stated size above this is taken for an uninitialized field.
const STRUCT_SIZE_MAX: usize = 64 * 1024;

/// A struct that begins with a `size_t struct_size` filled by the caller.
///
/// # Safety
/// The type is `repr(C)`, begins with the `usize` of its size, and every field is valid when zero and for any bytes: integers, floats, raw
/// pointers, optional function pointers, and arrays and structs of these.
pub(crate) unsafe trait CallerStruct: Copy {
    /// Name in the header.
    const NAME: &'static str;
    /// Size in the first version of the ABI. Never changes.
    const SIZE_MIN: usize;
}

/// The size that the struct at `pointer` states. `what` is the parameter or field that holds the pointer, as C sees it; so below.
///
/// # Safety
/// *pointer*: `pointer` is NULL or points to at least a `size_t`.
unsafe fn stated_size<T: CallerStruct>(what: &'static str, pointer: *const T) -> Result<usize, Refusal> {
    if pointer.is_null() {
        return Err(Refusal::Null { what });
    }
    // SAFETY: *pointer*; the struct begins with its size. Unaligned, because nothing has been checked yet.
    let stated = unsafe { pointer.cast::<usize>().read_unaligned() };
    if !(T::SIZE_MIN..=STRUCT_SIZE_MAX).contains(&stated) {
        return Err(Refusal::StructSize { what: T::NAME, stated, least: T::SIZE_MIN });
    }
    Ok(stated)
}

/// Copies what the caller's struct and ours have in common; the rest is zero.
///
/// # Safety
/// *pointer* and *struct_size*.
pub(crate) unsafe fn read<T: CallerStruct>(what: &'static str, pointer: *const T) -> Result<T, Refusal> {
    // SAFETY: *pointer*.
    let stated = unsafe { stated_size(what, pointer) }?;
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: *struct_size*: the caller owns `stated` bytes; the destination is ours and does not overlap. Zero and any copied bytes are
    // valid, as the trait promises.
    unsafe {
        ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), stated.min(size_of::<T>()));
        Ok(value.assume_init())
    }
}

/// Copies a struct whose pointer may be NULL.
///
/// # Safety
/// *pointer* and *struct_size*.
pub(crate) unsafe fn read_optional<T: CallerStruct>(what: &'static str, pointer: *const T) -> Result<Option<T>, Refusal> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on.
    unsafe { read(what, pointer) }.map(Some)
}

/// The elements of a caller's array. All are of one version, so the first one's size is the distance between them.
///
/// # Safety
/// *pointer*: `first` points to `length` elements; *struct_size* of each.
pub(crate) unsafe fn read_array<T: CallerStruct>(
    what: &'static str,
    first: *const T,
    length: usize,
) -> Result<impl Iterator<Item = Result<T, Refusal>>, Refusal> {
    // SAFETY: *pointer*; an empty array is never looked at.
    let distance = if length == 0 { 0 } else { unsafe { stated_size(what, first) }? };
    Ok((0..length).map(move |index| {
        let element = first.wrapping_byte_add(index * distance);
        // SAFETY: *pointer*: the element lies within the caller's array.
        let stated = unsafe { stated_size(what, element) }?;
        if stated != distance {
            return Err(Refusal::StructSize { what: T::NAME, stated, least: distance });
        }
        // SAFETY: as above.
        unsafe { read(what, element) }
    }))
}

/// Whether the caller's struct can be written, and how many bytes of it.
///
/// # Safety
/// *pointer* and *struct_size*.
pub(crate) unsafe fn writable<T: CallerStruct>(what: &'static str, pointer: *mut T) -> Result<Writable<T>, Refusal> {
    // SAFETY: passed on.
    let stated = unsafe { stated_size(what, pointer.cast_const()) }?;
    Ok(Writable { pointer, stated })
}

/// A caller's struct that may be written.
pub(crate) struct Writable<T> {
    pointer: *mut T,
    stated: usize,
}

impl<T: CallerStruct> Writable<T> {
    /// Writes all bytes that the caller owns, except the size that it stated. What this library does not know becomes zero.
    pub(crate) fn write(&self, value: &T) {
        let known = self.stated.min(size_of::<T>());
        let after_size = size_of::<usize>();
        let target = self.pointer.cast::<u8>();
        // SAFETY: `writable` checked the pointer; *struct_size*: the caller owns `stated` bytes, and `known` is not more than either side.
        // `value` is ours, so the two do not overlap.
        unsafe {
            ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>().add(after_size), target.add(after_size), known - after_size);
            ptr::write_bytes(target.add(known), 0, self.stated - known);
        }
    }
}

/// A caller's text; `None` for NULL.
///
/// # Safety
/// *text*, for as long as the result is used.
pub(crate) unsafe fn text<'a>(what: &'static str, pointer: *const c_char) -> Result<Option<&'a str>, Refusal> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: *text*.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes.to_str().map(Some).map_err(|_| Refusal::NotText { what })
}

/// `text` as a field of fixed size, cut at a character and closed by a zero byte.
pub(crate) fn fill_text<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    let cut = text.floor_char_boundary(N - 1);
    for (place, byte) in field.iter_mut().zip(&text.as_bytes()[..cut]) {
        *place = *byte as c_char;
    }
    field
}
