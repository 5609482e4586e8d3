//! Python packages that judge what we write: installed below `target/`, so that neither the machine's Python nor a virtual environment is
//! touched.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use switchback_tests::{
    programs::{available, succeed},
    workspace,
};

/// Packages by the list of their versions.
pub(crate) struct Packages {
    name: &'static str,
    requirements: &'static str,
    installed: OnceLock<Result<(), String>>,
}

/// The reference implementation of TUF.
pub(crate) static TUF: Packages = Packages::new("python-tuf", "requirements.txt");

/// The reference implementation of OpenSSF Model Signing.
pub(crate) static MODEL_SIGNING: Packages = Packages::new("model-signing", "model-signing.txt");

impl Packages {
    const fn new(name: &'static str, requirements: &'static str) -> Self {
        Self { name, requirements, installed: OnceLock::new() }
    }

    /// Whether they can be had, by the rule of [`available`]: a machine may lack pip, or a network.
    pub(crate) fn are_installed(&self) -> bool {
        available(self.name, self.installed.get_or_init(|| self.install()).clone())
    }

    fn folder(&self) -> PathBuf {
        workspace().join("target").join(self.name)
    }

    fn install(&self) -> Result<(), String> {
        let requirements = workspace().join("tests/python").join(self.requirements);
        let stamp = self.folder().join("installed.txt");
        if std::fs::read(&stamp).ok() == Some(std::fs::read(&requirements).unwrap()) {
            return Ok(());
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"]).arg(self.folder());
        let output = pip.arg("--requirement").arg(&requirements).output().map_err(|error| format!("python3: {error}"))?;
        if !output.status.success() {
            return Err(format!("pip could not install it: {}", String::from_utf8_lossy(&output.stderr)));
        }
        std::fs::copy(&requirements, &stamp).unwrap();
        Ok(())
    }

    /// Python with the packages importable.
    pub(crate) fn python(&self) -> Command {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", self.folder());
        python
    }

    /// Runs one of our Python programs, and returns what it printed.
    pub(crate) fn run(&self, script: &str, arguments: &[&Path]) -> String {
        succeed(self.python().arg(workspace().join("tests/python").join(script)).args(arguments))
    }

    /// Runs a module that the packages bring.
    pub(crate) fn module(&self, module: &str, arguments: &[&str], folder: &Path) -> Output {
        self.python().args(["-m", module]).args(arguments).current_dir(folder).output().unwrap()
    }
}
