//! The reference implementation of TUF: reads what we write, and lends its own tests to our client.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::Context as _;
use switchback_tests::{
    programs::{is_installed, program},
    workspace,
};

/// Version of python-tuf, as in `python/requirements.txt`.
const VERSION: &str = "7.0.0";

/// Runs a Python program with python-tuf importable, and returns what it printed.
pub(crate) fn run(script: &str, arguments: &[&Path]) -> anyhow::Result<String> {
    let output = python(&packages()?).arg(workspace().join("tests/python").join(script)).args(arguments).output()?;
    anyhow::ensure!(output.status.success(), "{script} refused:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn python(packages: &Path) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Installs python-tuf, its tests and what they need, once.
///
/// It goes below `target/`, so that neither the machine's Python nor a virtual environment is touched.
fn packages() -> anyhow::Result<PathBuf> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _installing = INSTALLING.lock();
    let packages = workspace().join("target/python-tuf");
    let requirements = workspace().join("tests/python/requirements.txt");
    let stamp = packages.join("installed.txt");
    if std::fs::read(&stamp).ok() == Some(std::fs::read(&requirements)?) {
        return Ok(packages);
    }
    pip(&["install", "--upgrade", "--target"], &packages, &["--requirement".as_ref(), requirements.as_os_str()])?;
    // The tests are in the source distribution only.
    let source = format!("tuf=={VERSION}");
    pip(&["download", "--no-deps", "--no-binary", "tuf", "--dest"], &packages, &[source.as_ref()])?;
    let unpack = ["-m", "tarfile", "-e"].map(AsRef::as_ref);
    let archive = packages.join(format!("tuf-{VERSION}.tar.gz"));
    succeed(python(&packages).args::<_, &std::ffi::OsStr>(unpack).arg(archive).arg(&packages))?;
    std::fs::copy(&requirements, &stamp)?;
    Ok(packages)
}

fn pip(words: &[&str], folder: &Path, what: &[&std::ffi::OsStr]) -> anyhow::Result<()> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(words).arg(folder).args(what);
    succeed(&mut command).context("pip could not fetch python-tuf")
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    anyhow::ensure!(output.status.success(), "{command:?} failed:\n{out}{err}");
    Ok(())
}

/// docs/conformance.md says what is asked and what is left out.
fn our_client_passes_its_tests(keys: &str) {
    if !is_installed("faketime") {
        return;
    }
    let packages = packages().unwrap();
    let (script, suite) = (workspace().join("tests/tuf-client/python-tuf/run.py"), packages.join(format!("tuf-{VERSION}")));
    succeed(python(&packages).arg(script).arg(program("tuf-client")).arg(suite).args([keys, "-q", "--tb=short"])).unwrap();
}

#[test]
fn our_client_passes_the_client_tests_of_python_tuf_with_ed25519_keys() {
    our_client_passes_its_tests("ed25519");
}

#[test]
fn our_client_passes_the_client_tests_of_python_tuf_with_ecdsa_keys() {
    our_client_passes_its_tests("ecdsa");
}
