//! Errors that say what to do.

use std::{error::Error, fmt};

/// An error with advice. The advice is printed on a line of its own, once, wherever in the chain it stands.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: String,
}

impl Failure {
    pub(crate) fn new(error: anyhow::Error, hint: impl Into<String>) -> Self {
        Self { error, hint: hint.into() }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds advice to an error.
pub(crate) trait Hint<T> {
    /// With what to do about it.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Failure::new(error.into(), hint).into())
    }
}

/// An error made here, with advice.
pub(crate) fn failure(what: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    Failure::new(anyhow::Error::msg(what.to_string()), hint).into()
}
