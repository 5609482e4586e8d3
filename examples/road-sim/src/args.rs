use std::io;
use std::str::FromStr;

/// The command line: a command, then options. Six options do not justify a dependency for whoever copies this example.
pub(crate) struct Args {
    command: String,
    rest: Vec<String>,
}

impl Args {
    pub(crate) fn from_environment() -> io::Result<Self> {
        let mut words = Vec::new();
        for word in std::env::args_os().skip(1) {
            words.push(word.into_string().map_err(|word| invalid(format!("{} is not UTF-8", word.display())))?);
        }
        let command = if words.is_empty() { String::new() } else { words.remove(0) };
        Ok(Self { command, rest: words })
    }

    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.rest.iter().position(|word| word == name);
        found.map(|at| self.rest.remove(at)).is_some()
    }

    pub(crate) fn optional<T: FromStr>(&mut self, name: &str) -> io::Result<Option<T>> {
        let Some(at) = self.rest.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 >= self.rest.len() {
            return Err(invalid(format!("{name} needs a value")));
        }
        self.rest.remove(at);
        let value = self.rest.remove(at);
        value.parse().map(Some).map_err(|_| invalid(format!("{name} cannot be `{value}`")))
    }

    pub(crate) fn number<T: FromStr>(&mut self, name: &str, default: T) -> io::Result<T> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    pub(crate) fn required(&mut self, name: &str) -> io::Result<String> {
        self.optional(name)?.ok_or_else(|| invalid(format!("{name} is missing")))
    }

    /// Refuses what nobody has asked for: a misspelled option must not pass in silence.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self.rest.first() {
            None => Ok(()),
            Some(word) => Err(invalid(format!("unknown option `{word}`"))),
        }
    }
}

pub(crate) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
