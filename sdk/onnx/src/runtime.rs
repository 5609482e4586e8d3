//! Finding, opening and checking the ONNX Runtime library.

use std::env;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::sys::{OrtApi, OrtApiBase};

use crate::error::RuntimeError;

/// The oldest ONNX Runtime 1.x that has all we call; equals the `api-23` feature of `ort`.
pub(crate) const MINIMUM_MINOR: u32 = ort::MINOR_VERSION;

/// What the loader looks for when nobody named a file. The soname, so that a development package is not needed.
const DEFAULT_LIBRARY: &str = "libonnxruntime.so.1";

/// The one ONNX Runtime of this process. Loading it again is refused by `ort` even after the last user is gone,
/// so it is kept until the process ends.
static OPEN: Mutex<Option<Runtime>> = Mutex::new(None);

/// An opened ONNX Runtime, from which sessions are made. Cheap to clone; all clones are the same library.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
    version: String,
}

impl Runtime {
    /// Opens ONNX Runtime from `path`; else from the file that the environment variable `ORT_DYLIB_PATH` names; else
    /// `libonnxruntime.so.1` wherever the system's loader finds it.
    ///
    /// A process has one ONNX Runtime: later calls return the same one. Blocks while the library is read (tens of
    /// milliseconds). Never panics when the library is missing or is something else.
    ///
    /// # Errors
    /// [`RuntimeError`] names the path tried. Version 1.23 is the oldest accepted.
    pub fn load(path: Option<&Path>) -> Result<Self, RuntimeError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = open.as_ref() {
            return match path {
                Some(asked) if !same_file(asked, &runtime.path) => {
                    Err(RuntimeError::OtherAlreadyOpen { open: runtime.path.clone(), asked: asked.to_owned() })
                }
                _ => Ok(runtime.clone()),
            };
        }
        let runtime = start(resolve(path))?;
        *open = Some(runtime.clone());
        Ok(runtime)
    }

    /// The version that the library states, such as `1.31.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The path or name under which the library was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn resolve(path: Option<&Path>) -> PathBuf {
    path.map(Path::to_owned)
        // An empty variable means unset, as everywhere.
        .or_else(|| env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(DEFAULT_LIBRARY))
}

fn start(path: PathBuf) -> Result<Runtime, RuntimeError> {
    let (api, version) = open_library(&path)?;
    // From here on `ort` uses this table. Had we let it find the library, it would look beside the executable
    // first, and panic on its first use if it found none.
    ort::set_api(api);
    let environment = ort::init()
        .with_name("switchback")
        .with_telemetry(false)
        .build()
        .map_err(|error| RuntimeError::NotStarted { path: path.clone(), reason: error.to_string() })?;
    // Every failure comes back to the caller as text; printing it to stderr as well is not a library's business.
    environment.set_log_level(LogLevel::Fatal);
    Ok(Runtime { environment, path, version })
}

#[cfg(feature = "ort-dynamic")]
fn open_library(path: &Path) -> Result<(OrtApi, String), RuntimeError> {
    // SAFETY: opening a library runs its initialisers. That the file named by the integrator is one that may run in
    // this process is the integrator's promise (`Runtime::load`); ONNX Runtime's own have no preconditions.
    let library = unsafe { libloading::Library::new(path) }.map_err(|error| {
        // libloading prefixes nothing useful; the loader's own sentence is in the source.
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        RuntimeError::NotOpened { path: path.to_owned(), reason }
    })?;
    // SAFETY: OrtGetApiBase has had this signature since the C API exists (onnxruntime_c_api.h).
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>("OrtGetApiBase") }
        .map_err(|_| RuntimeError::NotOnnxRuntime { path: path.to_owned() })?;
    // SAFETY: takes nothing and returns a pointer to a static table, or null, which `read_base` refuses.
    let base = unsafe { base() };
    let found = read_base(base, path);
    // The function pointers must stay valid until the process ends: the library is never closed.
    std::mem::forget(library);
    found
}

#[cfg(not(feature = "ort-dynamic"))]
fn open_library(path: &Path) -> Result<(OrtApi, String), RuntimeError> {
    // SAFETY: the linked function; takes nothing and returns a static table.
    read_base(unsafe { ort::sys::OrtGetApiBase() }, path)
}

fn read_base(base: *const OrtApiBase, path: &Path) -> Result<(OrtApi, String), RuntimeError> {
    // SAFETY: OrtGetApiBase returns null or a table that lives as long as the library, which is never closed.
    let base = unsafe { base.as_ref() }.ok_or_else(|| RuntimeError::NotOnnxRuntime { path: path.to_owned() })?;
    // SAFETY: takes nothing; documented to return a NUL-terminated string that is not to be freed.
    let version = unsafe { (base.GetVersionString)() };
    let version = if version.is_null() {
        "unknown".to_owned()
    } else {
        // SAFETY: not null, and NUL-terminated as documented.
        unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
    };
    let too_old = || RuntimeError::TooOld { path: path.to_owned(), found: version.clone() };
    if !is_supported(&version) {
        return Err(too_old());
    }
    // SAFETY: takes any number and returns null for a version that it does not have.
    let api = unsafe { (base.GetApi)(MINIMUM_MINOR) };
    // SAFETY: not null means the table of that API version, which has at least the fields of our `OrtApi` (the table
    // only ever grows at its end) and lives as long as the library.
    let api = unsafe { api.as_ref() }.ok_or_else(too_old)?;
    Ok((api.clone(), version))
}

fn is_supported(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(1)), Some(Ok(minor))) if minor >= MINIMUM_MINOR)
}

#[cfg(test)]
mod tests {
    use super::is_supported;

    #[test]
    fn versions_before_the_minimum_and_unreadable_ones_are_refused() {
        for (version, expected) in [
            ("1.23.0", true),
            ("1.31.1", true),
            ("1.24.0-dev", true),
            ("1.22.9", false),
            ("2.40.0", false),
            ("", false),
            ("unknown", false),
            ("1", false),
        ] {
            assert_eq!(is_supported(version), expected, "{version}");
        }
    }
}
