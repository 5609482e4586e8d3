//! The reference implementation of TUF reads what we write.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use switchback_tests::{
    programs::{available, succeed},
    workspace,
};

/// Where the packages go: below `target/`, so that neither the machine's Python nor a virtual environment is touched.
fn packages() -> PathBuf {
    workspace().join("target/python-tuf")
}

/// Whether python-tuf can be had, by the rule of [`available`]: a machine may lack pip, or a network.
pub(crate) fn is_installed() -> bool {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    available("python-tuf", INSTALLED.get_or_init(install).clone())
}

fn install() -> Result<(), String> {
    let requirements = workspace().join("tests/python/requirements.txt");
    let stamp = packages().join("installed.txt");
    if std::fs::read(&stamp).ok() == Some(std::fs::read(&requirements).unwrap()) {
        return Ok(());
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"]).arg(packages());
    let output = pip.arg("--requirement").arg(&requirements).output().map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        return Err(format!("pip could not install it: {}", String::from_utf8_lossy(&output.stderr)));
    }
    std::fs::copy(&requirements, &stamp).unwrap();
    Ok(())
}

/// Runs a Python program with python-tuf importable, and returns what it printed.
pub(crate) fn run(script: &str, arguments: &[&Path]) -> String {
    let script = workspace().join("tests/python").join(script);
    succeed(Command::new("python3").env("PYTHONPATH", packages()).arg(script).args(arguments))
}
