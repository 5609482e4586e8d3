//! Which ABI the header describes and the library has.

use core::ffi::{CStr, c_char};

/// Major number of the ABI that this header describes. A library with another major number cannot be used with this header.
pub const SWB_ABI_MAJOR: u32 = 1;
/// Minor number of the ABI that this header describes. It rises when functions, fields at the end of a struct or numbers are added.
pub const SWB_ABI_MINOR: u32 = 0;
/// Both in one figure: `(major << 16) | minor`.
pub const SWB_ABI_VERSION: u32 = 0x10000;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("the package version holds no zero byte"),
};

/// The ABI of the loaded library: `(major << 16) | minor`.
///
/// Compare it with `SWB_ABI_VERSION`, the same figure for the header that you compiled with: the major numbers must be equal and the library's
/// minor number at least the header's. `swb_vehicle_open` compares the major number itself.
///
/// Any thread. Never blocks, never fails.
#[unsafe(no_mangle)]
pub extern "C" fn swb_abi_version() -> u32 {
    SWB_ABI_VERSION
}

/// The version of the product, such as "0.1.0", for logs. Decide by `swb_abi_version`, not by this.
///
/// The text is the library's and lives as long as the library is loaded; do not free it. Any thread. Never blocks, never fails.
#[unsafe(no_mangle)]
pub extern "C" fn swb_version_string() -> *const c_char {
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_carries_the_major_number_of_the_abi() {
        assert_eq!(env!("SWITCHBACK_SONAME"), format!("libswitchback.so.{SWB_ABI_MAJOR}"));
        assert_eq!(swb_abi_version(), (SWB_ABI_MAJOR << 16) | SWB_ABI_MINOR);
    }
}
