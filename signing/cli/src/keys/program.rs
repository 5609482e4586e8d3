//! Keys behind an external program: key services of clouds, and whatever else signs.
//!
//! `PROGRAM [ARGUMENT...] public` prints the public key, as PEM or as a TUF key object. `PROGRAM [ARGUMENT...] sign KEYID` reads the bytes to
//! sign to the end of its standard input and prints the signature: of Ed25519 its 64 bytes, of ECDSA DER or both numbers of 32 bytes each;
//! as they are or in hexadecimal. Exit status 0; otherwise what it said on standard error is the reason. `docs/keys.md` is its manual.

use std::{
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use switchback_signing::keys::{P256PublicKey, PublicKey, Signature, Signer, SignerError};

use super::{
    file::{check_of_use, parse_public},
    passphrase::PASSPHRASE_VARIABLE,
};
use crate::failure::{Hint, failure};

/// Longest time for an answer: a person may have to touch something.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Longest answer, bytes: an RSA key of 8192 bits in PEM has some 1,500.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// How long a program that has said everything may take to end between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const HINT: &str = "docs/keys.md says what a signing program is called with and what it answers";

/// A key behind a program.
pub(crate) struct ProgramSigner {
    program: Program,
    key: PublicKey,
}

/// A program with the arguments that come before ours.
pub(crate) struct Program {
    words: Vec<String>,
    time_max: Duration,
}

impl ProgramSigner {
    /// Asks the program for its public key.
    pub(crate) fn open(command_line: &str) -> anyhow::Result<Self> {
        let program = Program::new(command_line, TIME_MAX)?;
        let answer = program.run(&["public"], &[]).hint(HINT)?;
        let key = parse_public(answer.trim_ascii()).with_context(|| format!("what `{} public` printed", program.name())).hint(HINT)?;
        check_of_use(&key).with_context(|| format!("the key behind {}", program.name()))?;
        Ok(Self { program, key })
    }
}

impl Signer for ProgramSigner {
    fn public_key(&self) -> PublicKey {
        self.key.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SignerError> {
        let key_id = self.key.key_id();
        let answer = self.program.run(&["sign", key_id.as_str()], message);
        let answer = answer.map_err(|error| SignerError { key_id, reason: format!("{error:#}") })?;
        Ok(signature_of(&self.key, message, answer))
    }
}

/// The spelling of the answer that verifies; the answer itself where none does, for the message.
fn signature_of(key: &PublicKey, message: &[u8], answer: Vec<u8>) -> Signature {
    let decoded = std::str::from_utf8(&answer).ok().and_then(|text| Signature::from_hex(text.trim()));
    let spellings = [Some(Signature::from_bytes(answer.as_slice())), decoded].into_iter().flatten();
    let both = |spelling: Signature| {
        let numbers = matches!(key, PublicKey::P256(_)).then(|| P256PublicKey::signature_of_numbers(spelling.as_bytes())).flatten();
        std::iter::once(spelling).chain(numbers)
    };
    let found = spellings.flat_map(both).find(|signature| key.verify(message, signature.as_bytes()).is_ok());
    found.unwrap_or_else(|| Signature::from_bytes(answer))
}

impl Program {
    fn new(command_line: &str, time_max: Duration) -> anyhow::Result<Self> {
        let words: Vec<String> = command_line.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            return Err(failure("exec: names no program", "write --key 'exec:PROGRAM ARGUMENT...'"));
        }
        Ok(Self { words, time_max })
    }

    fn name(&self) -> &str {
        &self.words[0]
    }

    /// Runs the program with `input`; what it printed, if it ended well.
    fn run(&self, verb: &[&str], input: &[u8]) -> anyhow::Result<Vec<u8>> {
        let end = Instant::now() + self.time_max;
        let mut command = Command::new(self.name());
        command.args(&self.words[1..]).args(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What opens other keys is none of its business.
        command.env_remove(PASSPHRASE_VARIABLE);
        let mut child = Running(command.spawn().with_context(|| format!("cannot run {}", self.name()))?);
        let stdin = child.0.stdin.take();
        let (answer, complaint) = (read(child.0.stdout.take()), read(child.0.stderr.take()));
        let input = input.to_vec();
        // On a thread, because a program may print before it has read everything. One that reads nothing and goes is judged by its status.
        thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));

        let late = || format!("{} has not answered `{}` within {} s", self.name(), verb.join(" "), self.time_max.as_secs());
        let wait = |stream: &Receiver<io::Result<Vec<u8>>>| stream.recv_timeout(end.saturating_duration_since(Instant::now()));
        let answer = wait(&answer).ok().with_context(late)?.with_context(|| format!("cannot read what {} prints", self.name()))?;
        let complaint = wait(&complaint).ok().with_context(late)?.unwrap_or_default();
        let status = loop {
            match child.0.try_wait()? {
                Some(status) => break status,
                None if Instant::now() >= end => bail!(late()),
                None => thread::sleep(LOOK_AGAIN),
            }
        };
        if !status.success() {
            let said = String::from_utf8_lossy(&complaint);
            let said = if said.trim().is_empty() { "it said nothing on standard error" } else { said.trim() };
            bail!("{} {} failed ({status}): {said}", self.name(), verb[0]);
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            bail!("{} {} printed more than {ANSWER_BYTES_MAX} bytes", self.name(), verb[0]);
        }
        Ok(answer)
    }
}

/// A program that is not left running.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and its status is known.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a stream on a thread, one byte more than is allowed at most; the rest is thrown away, so that the program can end.
fn read(stream: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut bytes = Vec::new();
        let read = stream.by_ref().take(ANSWER_BYTES_MAX + 1).read_to_end(&mut bytes);
        // What arrives too late for anybody is no error.
        let _ = sender.send(read.map(|_| bytes));
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    receiver
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use switchback_signing::keys::pem::{Scheme, SecretKey};

    use super::*;

    /// A program in the language of the shell, with the arguments of the protocol behind it.
    fn shell(script: &str, time_max: Duration) -> Program {
        Program { words: ["sh", "-c", script, "signer"].map(str::to_owned).to_vec(), time_max }
    }

    fn check(script: &str, expected: &str) {
        let error = format!("{:#}", shell(script, TIME_MAX).run(&["sign", "id"], b"message").unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_a_program_prints_is_its_answer() {
        let answer = shell("echo $1 $2; cat", TIME_MAX).run(&["sign", "id"], b"message").unwrap();
        assert_eq!(answer, b"sign id\nmessage");
        // More than a pipe holds, in both directions at once.
        let long = vec![b'x'; 1 << 20];
        assert_eq!(shell("head -c 5; cat >/dev/null", TIME_MAX).run(&["sign", "id"], &long).unwrap(), b"xxxxx");
    }

    #[test]
    fn a_program_that_fails_says_why() {
        check("echo 'the service is closed' >&2; exit 3", "sh sign failed (exit status: 3): the service is closed");
        check("exit 1", "it said nothing on standard error");
        check("head -c 20000 /dev/zero", "sh sign printed more than 16384 bytes");
        let error = Program::new("/nowhere/signer", TIME_MAX).unwrap().run(&["public"], &[]).unwrap_err();
        assert!(error.to_string().contains("cannot run /nowhere/signer"), "{error}");
        assert!(Program::new(" ", TIME_MAX).is_err());
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        for script in ["cat >/dev/null; exec sleep 1000", "exec >&- 2>&-; exec sleep 1000"] {
            let error = shell(script, Duration::from_millis(300)).run(&["public"], &[]).unwrap_err();
            assert!(error.to_string().contains("sh has not answered `public` within 0 s"), "{error}");
        }
    }

    #[test]
    fn every_spelling_of_a_signature_is_understood_and_no_other_is_made_up() {
        for scheme in [Scheme::Ed25519, Scheme::EcdsaP256] {
            let signer = SecretKey::from_random(scheme, &[7; 32]).unwrap();
            let (key, signature) = (signer.public_key(), signer.sign(b"message").unwrap());
            let hex = format!("{}\n", signature.to_hex()).into_bytes();
            for spelling in [signature.as_bytes().to_vec(), hex] {
                assert_eq!(signature_of(&key, b"message", spelling), signature);
            }
            let other = signature_of(&key, b"another", signature.as_bytes().to_vec());
            assert!(key.verify(b"another", other.as_bytes()).is_err());
        }
        let signer = SecretKey::from_random(Scheme::EcdsaP256, &[7; 32]).unwrap();
        let der = signer.sign(b"message").unwrap();
        // Both numbers of this signature have 32 bytes, or 33 with the sign's zero before them.
        let number = |at: usize| -> &[u8] { &der.as_bytes()[at + 2..][..usize::from(der.as_bytes()[at + 1])] };
        let (r, s) = (number(2), number(4 + number(2).len()));
        let numbers = [&r[r.len() - 32..], &s[s.len() - 32..]].concat();
        assert_eq!(signature_of(&signer.public_key(), b"message", numbers), der);
    }
}
