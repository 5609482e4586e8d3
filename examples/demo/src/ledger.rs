//! The story as it is told and the claims that it makes. A claim is checked where it is made; a false one ends the demo.

use std::time::Instant;

use anyhow::{Result, bail};

/// One checked claim.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) step: usize,
    pub(crate) text: String,
    pub(crate) measured: String,
    pub(crate) holds: bool,
}

/// Everything told so far.
pub(crate) struct Ledger {
    started: Instant,
    step: usize,
    titles: Vec<String>,
    claims: Vec<Claim>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), step: 0, titles: Vec::new(), claims: Vec::new() }
    }

    /// Opens the next step of the story.
    pub(crate) fn step(&mut self, title: &str) {
        self.step += 1;
        self.titles.push(title.to_owned());
        println!("\n{}. {title}", self.step);
    }

    /// Tells something that is no claim.
    pub(crate) fn say(&self, text: &str) {
        println!("   {:5.1} s  {text}", self.seconds());
    }

    /// Tells a claim with what was measured, and fails when it does not hold.
    pub(crate) fn claim(&mut self, text: &str, measured: &str, holds: bool) -> Result<()> {
        let sign = if holds { "ok" } else { "NO" };
        println!("   {:5.1} s  [{sign}] {text}: {measured}", self.seconds());
        self.claims.push(Claim { step: self.step, text: text.to_owned(), measured: measured.to_owned(), holds });
        if !holds {
            bail!("step {}: the claim \"{text}\" does not hold: {measured}", self.step);
        }
        Ok(())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn titles(&self) -> &[String] {
        &self.titles
    }

    pub(crate) fn claims(&self) -> &[Claim] {
        &self.claims
    }
}
