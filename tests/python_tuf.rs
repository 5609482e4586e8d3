//! The reference implementation of TUF reads what we write.

use std::{path::Path, process::Command};

use switchback_tests::workspace;

/// Runs a Python program with python-tuf importable, and returns what it printed.
///
/// The packages go below `target/`, so that neither the machine's Python nor a virtual environment is touched.
pub(crate) fn run(script: &str, arguments: &[&Path]) -> anyhow::Result<String> {
    let packages = workspace().join("target/python-tuf");
    let requirements = workspace().join("tests/python/requirements.txt");
    let stamp = packages.join("installed.txt");
    if std::fs::read(&stamp).ok() != Some(std::fs::read(&requirements)?) {
        let install = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"])
            .arg(&packages)
            .arg("--requirement")
            .arg(&requirements)
            .output()?;
        anyhow::ensure!(install.status.success(), "pip could not install python-tuf:\n{}", String::from_utf8_lossy(&install.stderr));
        std::fs::copy(&requirements, &stamp)?;
    }
    let output =
        Command::new("python3").env("PYTHONPATH", &packages).arg(workspace().join("tests/python").join(script)).args(arguments).output()?;
    anyhow::ensure!(output.status.success(), "{script} refused:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
