//! The release engineer's desk: the `switchback` program, run as a person would run it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::interrupt;

/// Where `switchback` is and whom it talks to.
pub(crate) struct Desk {
    pub(crate) program: PathBuf,
    pub(crate) server: String,
    pub(crate) token_file: PathBuf,
    pub(crate) runtime: PathBuf,
}

impl Desk {
    /// Runs a command that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<()> {
        self.succeed(arguments).map(drop)
    }

    /// Runs a command that must succeed, for its answer.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        let output = self.succeed(&arguments)?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the answer of `{}` is no JSON: {}", told(&arguments), String::from_utf8_lossy(&output.stdout)))
    }

    /// Runs a command that must be refused, and returns with which words.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        if output.status.success() {
            bail!("`{}` succeeded and should have been refused", told(arguments));
        }
        Ok(one_line(&String::from_utf8_lossy(&output.stderr)))
    }

    fn succeed(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.output(arguments)?;
        if !output.status.success() {
            let (stderr, stdout) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
            bail!("`{}` failed ({}):\n{stderr}{stdout}", told(arguments), output.status);
        }
        Ok(output)
    }

    fn output(&self, arguments: &[&str]) -> Result<Output> {
        interrupt::check()?;
        Command::new(&self.program)
            .args(arguments)
            .env("SWITCHBACK_SERVER", &self.server)
            .env("SWITCHBACK_TOKEN_FILE", &self.token_file)
            .env("ORT_DYLIB_PATH", &self.runtime)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", self.program.display()))
    }
}

fn told(arguments: &[&str]) -> String {
    format!("switchback {}", arguments.join(" "))
}

/// The words of an error without its layout and its hint.
fn one_line(text: &str) -> String {
    let error = text.lines().take_while(|line| !line.trim_start().starts_with("hint:"));
    let words: Vec<&str> = error.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_without_its_hint() {
        assert_eq!(one_line("error: it has 1 of 2\n  signatures\n hint: sign\n"), "it has 1 of 2 signatures");
    }
}
