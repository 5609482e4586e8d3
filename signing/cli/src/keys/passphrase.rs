//! Passphrases: from a file, from the environment, or from whoever sits at the terminal.

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Context;
use clap::Args;
use console::Term;
use zeroize::Zeroizing;

use crate::{failure::failure, files};

/// Longest passphrase file, bytes.
const PASSPHRASE_BYTES_MAX: usize = 4096;

/// Shortest passphrase for a new key. Whoever has the file can try as many as there are: each costs some 0.2 seconds of a core.
const NEW_CHARACTERS_MIN: usize = 12;

/// Holds a passphrase itself.
pub(crate) const PASSPHRASE_VARIABLE: &str = "SWITCHBACK_PASSPHRASE";

const HINT: &str = "name a file whose first line it is (--passphrase-file, or the environment variable SWITCHBACK_PASSPHRASE_FILE), or set \
                    SWITCHBACK_PASSPHRASE";

/// Where a passphrase comes from when it is not asked for.
#[derive(Args, Clone, Default)]
pub(crate) struct PassphraseArguments {
    /// File whose first line opens an encrypted key, or a token's PIN. Without it, SWITCHBACK_PASSPHRASE is taken, or the terminal asks
    #[arg(long, value_name = "FILE", env = "SWITCHBACK_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Who may read a new key.
#[derive(Args, Clone)]
pub(crate) struct Protection {
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArguments,
    /// Write secret keys without a passphrase: whoever reads the file can sign
    #[arg(long)]
    pub(crate) unencrypted: bool,
}

impl Protection {
    /// The passphrase for new keys of `whom`; nothing when they are to have none.
    pub(crate) fn choose(&self, whom: &str) -> anyhow::Result<Option<Zeroizing<String>>> {
        if self.unencrypted {
            return Ok(None);
        }
        if let Some(given) = self.passphrase.given()? {
            return check_new(given).map(Some);
        }
        let first =
            ask(&format!("New passphrase for {whom}: "), "new keys are encrypted, and there is no terminal to ask for a passphrase")?;
        let first = check_new(first)?;
        let again = ask("The same again: ", "the terminal is gone")?;
        if *first != *again {
            return Err(failure("the two passphrases differ", "nothing was written; begin again"));
        }
        Ok(Some(first))
    }
}

impl PassphraseArguments {
    /// As if it had been named on the command line.
    pub(crate) fn of_file(passphrase_file: Option<PathBuf>) -> Self {
        Self { passphrase_file }
    }

    /// What opens an existing secret: `what` is its passphrase or its PIN.
    pub(crate) fn existing(&self, what: &str) -> anyhow::Result<Zeroizing<String>> {
        match self.given()? {
            Some(given) => Ok(given),
            None => ask(&format!("{what}: "), &format!("{what} is needed, and there is no terminal to ask for it")),
        }
    }

    fn given(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        if let Some(path) = &self.passphrase_file {
            let bytes = Zeroizing::new(files::read(path, PASSPHRASE_BYTES_MAX)?);
            let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
            let line = text.lines().next().unwrap_or_default();
            if line.is_empty() {
                let what = format!("the first line of {} is empty", path.display());
                return Err(failure(what, "it is the passphrase"));
            }
            return Ok(Some(Zeroizing::new(line.to_owned())));
        }
        let set = std::env::var(PASSPHRASE_VARIABLE).ok().filter(|text| !text.is_empty());
        Ok(set.map(Zeroizing::new))
    }
}

fn check_new(passphrase: Zeroizing<String>) -> anyhow::Result<Zeroizing<String>> {
    let found = passphrase.chars().count();
    if found < NEW_CHARACTERS_MIN {
        let what = format!("the passphrase has {found} characters, a new key's needs {NEW_CHARACTERS_MIN}");
        return Err(failure(what, "four or five words that nobody would put in a row are good ones"));
    }
    Ok(passphrase)
}

/// Asks without showing what is typed. On stderr, because results go to stdout.
fn ask(prompt: &str, nobody: &str) -> anyhow::Result<Zeroizing<String>> {
    let terminal = Term::stderr();
    if !terminal.is_term() || !std::io::stdin().is_terminal() {
        return Err(failure(nobody, HINT));
    }
    terminal.write_str(prompt)?;
    Ok(Zeroizing::new(terminal.read_secure_line().context("cannot read the passphrase")?))
}
