//! The raw objects of ONNX Runtime that a run needs, each freed exactly once.

use std::ffi::CString;
use std::ptr::{self, NonNull};

use ort::sys::{OrtAllocatorType, OrtMemType};
use ort::sys::{OrtApi, OrtIoBinding, OrtMemoryInfo, OrtRunOptions, OrtSession, OrtStatusPtr, OrtValue};

use crate::buffer::Buffer;
use crate::tensor::TensorInfo;

/// Turns a status into a result and frees it; the text is ONNX Runtime's.
pub(crate) fn check(status: OrtStatusPtr) -> Result<(), String> {
    // SAFETY: `status` was just returned by a function of the API and is owned by us.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.to_string())
}

macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $release:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            raw: NonNull<$raw>,
        }

        // SAFETY: the object is not tied to the thread that made it, and is used from one thread at a time because
        // every use goes through an owner (`Session`) that is not `Sync`.
        unsafe impl Send for $name {}

        impl $name {
            fn made_by(make: impl FnOnce(&OrtApi, *mut *mut $raw) -> OrtStatusPtr) -> Result<Self, String> {
                let mut raw = ptr::null_mut();
                check(make(ort::api(), &raw mut raw))?;
                NonNull::new(raw).map(|raw| Self { raw }).ok_or_else(|| {
                    concat!("ONNX Runtime returned no ", stringify!($name)).to_owned()
                })
            }

            pub(crate) fn as_ptr(&self) -> *mut $raw {
                self.raw.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by this API and released only here.
                unsafe { (ort::api().$release)(self.raw.as_ptr()) };
            }
        }
    };
}

owned!(
    /// Where a tensor's memory is: the CPU's.
    MemoryInfo, OrtMemoryInfo, ReleaseMemoryInfo
);
owned!(
    /// A tensor around a [`Buffer`] that somebody else keeps alive.
    Value, OrtValue, ReleaseValue
);
owned!(
    /// Which tensor is which input and output of one session.
    Binding, OrtIoBinding, ReleaseIoBinding
);
owned!(
    /// The options of a run, made once because making them allocates.
    RunOptions, OrtRunOptions, ReleaseRunOptions
);

impl MemoryInfo {
    pub(crate) fn cpu() -> Result<Self, String> {
        // SAFETY: plain values in, one pointer out.
        Self::made_by(|api, out| unsafe {
            (api.CreateCpuMemoryInfo)(OrtAllocatorType::OrtDeviceAllocator, OrtMemType::OrtMemTypeDefault, out)
        })
    }
}

impl RunOptions {
    pub(crate) fn new() -> Result<Self, String> {
        // SAFETY: one pointer out.
        let options = Self::made_by(|api, out| unsafe { (api.CreateRunOptions)(out) })?;
        // Fatal only: a failed run returns its text, see `Runtime`.
        // SAFETY: `options` is valid and ours.
        check(unsafe { (ort::api().RunOptionsSetRunLogSeverityLevel)(options.as_ptr(), 4) })?;
        Ok(options)
    }
}

impl Value {
    /// A tensor over the start of `buffer`, which must live longer than the value and every binding that has it,
    /// and must hold `info.bytes()`.
    pub(crate) fn over(buffer: &Buffer, info: &TensorInfo, memory: &MemoryInfo) -> Result<Self, String> {
        let shape = info.shape.iter().map(|&dimension| i64::try_from(dimension)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| format!("tensor '{}' is too large", info.name))?;
        // SAFETY: the pointers are valid for the call; shape and memory info are copied; the data pointer is kept by
        // the value, for which the caller promises a buffer that is large enough and lives longer.
        Self::made_by(|api, out| unsafe {
            (api.CreateTensorWithDataAsOrtValue)(
                memory.as_ptr(),
                buffer.as_mut_ptr().cast(),
                info.bytes(),
                shape.as_ptr(),
                shape.len(),
                info.element_type.to_ort(),
                out,
            )
        })
    }
}

impl Binding {
    /// An empty binding. It must be dropped before the session.
    pub(crate) fn new(session: *mut OrtSession) -> Result<Self, String> {
        // SAFETY: the caller passes a valid session.
        Self::made_by(|api, out| unsafe { (api.CreateIoBinding)(session, out) })
    }

    pub(crate) fn input(&self, name: &str, value: &Value) -> Result<(), String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: all three are valid; the name is copied, and the value's tensor is shared by reference count.
        check(unsafe { (ort::api().BindInput)(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }

    pub(crate) fn output(&self, name: &str, value: &Value) -> Result<(), String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: as in `input`.
        check(unsafe { (ort::api().BindOutput)(self.as_ptr(), name.as_ptr(), value.as_ptr()) })
    }
}
