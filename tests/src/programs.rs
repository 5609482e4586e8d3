//! The real programs, built before the first one is started.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

use crate::workspace;

/// Folder of the programs of the profile in which the tests themselves were built.
pub fn folder() -> PathBuf {
    let mut folder = std::env::current_exe().unwrap();
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    folder
}

/// Path of one of our programs. Builds all of them once; that takes a moment only when something has changed.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(build);
    let path = folder().join(name);
    assert!(path.is_file(), "{} was not built", path.display());
    path
}

fn build() {
    let mut cargo = outside_package(option_env!("CARGO").unwrap_or("cargo"));
    // The words of the Makefile: other words would unify other features and build everything once more.
    cargo.args(["build", "--quiet", "--workspace"]).current_dir(workspace());
    if folder().ends_with("release") {
        cargo.arg("--release");
    }
    succeed(&mut cargo);
}

/// A command that runs cargo once more, without what cargo has told this test of the package that it belongs to.
///
/// Build scripts may ask for these variables (ring's does). With the ones of another package, ring and all that stands on it would be built
/// anew in the middle of the tests, and once more by the next cargo outside of them.
pub fn outside_package(program: &str) -> Command {
    let mut command = Command::new(program);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|start| name.starts_with(start))) {
        command.env_remove(name);
    }
    command
}

/// Whether a tool beyond Rust, a C compiler and Python 3 is installed, by the rule of [`available`].
pub fn is_installed(tool: &str) -> bool {
    available(tool, Command::new(tool).arg("--version").output().map(drop).map_err(|error| error.to_string()))
}

/// Whether something beyond Rust, a C compiler and Python 3 can be had. A test that needs it says that it leaves that part out.
///
/// With `CI` set it must be there, so that nothing is left out unseen: `.ci/run` installs it all.
pub fn available(what: &str, found: Result<(), String>) -> bool {
    let Err(why) = found else { return true };
    assert!(std::env::var_os("CI").is_none(), "{what} is not there ({why}); .ci/run installs what the tests need");
    leave_out(&format!("{what} is not there: {}", why.lines().next().unwrap_or_default()));
    false
}

/// Says that a test leaves something out, and why. Past the test harness, which swallows what a test that passes prints.
pub fn leave_out(what: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "left out in {name}: {what}");
}

/// Runs a command that must succeed and returns what it printed.
pub fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{out}{err}");
    out.into_owned()
}

/// Runs a command that must fail and returns what it said about it.
pub fn fail(command: &mut Command) -> String {
    let output = run(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{command:?} should have failed, but said:\n{out}{err}");
    err.into_owned()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_within_a_test_does_not_hear_of_the_tests_package() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo runs the tests");
        let told = succeed(&mut outside_package("env"));
        assert!(!told.contains("CARGO_PKG_") && !told.contains("CARGO_MANIFEST_"), "{told}");
    }
}
