//! Decides what happens next in an update, and does nothing itself.
//!
//! ```text
//! offered -> consented -> downloading -> staged -> self-tested -> shadow -> armed -> trial -> confirmed
//!    |           |            |            |            |           |        |        |
//!    +-----------+------------+------------+--- refused +-----------+--------+        +-> rolled back
//! ```
//!
//! Whoever owns an [`Update`] tells it what happened with [`Update::handle`] and does what [`Update::poll_output`] says until there is
//! nothing more. What must survive a power cut is asked for before it is acted on: a try is recorded before the model may drive, and
//! a confirmation before the previous model is let go.
//!
//! ```
//! use switchback_signing::metadata::vehicle::{ReleaseRef, UpdateState};
//! use switchback_sdk::update::{ActivationPolicy, Consent, Input, Offer, Output, Update, VehicleState};
//!
//! let mut update = Update::new(ActivationPolicy::NextDisengaged);
//! let release = ReleaseRef { model: "vla-2".into(), version: "2.0.0".into(), release_counter: 7 };
//! update.handle(Input::Offered(Offer { release, refusal: None }))?;
//! assert_eq!(update.poll_output(), Some(Output::Changed(UpdateState::Offered)));
//! assert_eq!(update.poll_output(), Some(Output::AskConsent));
//! update.handle(Input::Consent(Consent::Granted))?;
//! assert_eq!(update.poll_output(), Some(Output::Changed(UpdateState::Consented)));
//! assert_eq!(update.poll_output(), Some(Output::Download));
//! # Ok::<(), switchback_sdk::update::OutOfTurn>(())
//! ```

mod policy;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use switchback_signing::metadata::vehicle::{Reason, ReleaseRef, UpdateState};
use thiserror::Error;

pub use policy::{ActivationPolicy, Permission, VehicleState};
use state::{Proof, State, Takeover};

/// A verified release that the Director assigned to this vehicle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The release.
    pub release: ReleaseRef,
    /// Why the vehicle does not take this very release, if that is known already: it has given it up, cannot run it, or does not want it
    /// for now.
    pub refusal: Option<Reason>,
}

/// What the OEM's software says about an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Download and install it.
    Granted,
    /// Ask again later, for instance while the driver is being asked.
    Later,
    /// Not this release.
    Denied,
}

/// What a failure says about the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The release itself is bad: it is not tried again on this vehicle.
    Release,
    /// It may have been bad luck: it is tried again, a limited number of times.
    Circumstances,
    /// Neither: the OEM's software said no, or the Director withdrew it.
    Nobody,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// The Director assigned a release that is not installed.
    Offered(Offer),
    /// The Director assigns nothing that is not installed; whatever was on its way is no longer wanted.
    Withdrawn,
    /// The metadata was not believed, or is not for this vehicle.
    NotBelieved(Reason),
    /// Answers [`Output::AskConsent`].
    Consent(Consent),
    /// The download began, or goes on after an interruption.
    DownloadBegan,
    /// The release is complete in its slot, synced and read back.
    Staged,
    /// The model answered its golden inputs as it must.
    SelfTestPassed,
    /// The model runs beside the active one.
    ShadowBegan,
    /// The model is ready to take over; also the answer to [`Output::Hold`].
    Armed,
    /// The state of the vehicle now.
    Vehicle(VehicleState),
    /// The OEM's software wants the model to take over now.
    Activate,
    /// Answers [`Output::RecordTry`].
    TryRecorded,
    /// The model answers frames.
    Swapped,
    /// The model answered all frames of its trial.
    TrialPassed,
    /// Answers [`Output::RecordConfirmation`].
    ConfirmationRecorded,
    /// Answers [`Output::Confirm`]: the model drives, and nothing is kept beside it.
    Confirmed,
    /// The record that was asked for could not be written.
    RecordFailed(Reason),
    /// The update failed, and whatever drove before it still does, or does again.
    Failed(Reason, Blame),
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// The update is in this state now: tell the OEM's software and the server.
    Changed(UpdateState),
    /// Ask the OEM's software; answer with [`Input::Consent`].
    AskConsent,
    /// Download the release; answer with [`Input::DownloadBegan`] and [`Input::Staged`], or [`Input::Failed`].
    Download,
    /// Load the staged release and have it tested.
    Load,
    /// Give the candidate back to the engine: it will not drive. After [`Output::Swap`] a frame may be faster: answer with
    /// [`Input::Failed`] or [`Input::Swapped`] then.
    Cancel,
    /// Record that a try begins; answer with [`Input::TryRecorded`] or [`Input::RecordFailed`].
    RecordTry,
    /// Let the armed model take over at the next frame that is permitted; asked for again when the permission changes.
    Swap(Permission),
    /// Take the order to swap back; answer with [`Input::Armed`], or with [`Input::Swapped`] when a frame was faster.
    Hold,
    /// Give the recorded try back: no frame took the model.
    ReturnTry,
    /// Record that the model is confirmed; answer with [`Input::ConfirmationRecorded`] or [`Input::RecordFailed`].
    RecordConfirmation,
    /// Let the previous model go; answer with [`Input::Confirmed`], or [`Input::Failed`] when the model failed before.
    Confirm,
    /// Record that the release in the slot, or on its way there, is given up; a confirmation of it is taken back.
    RecordFailure(Reason, Blame),
}

/// An input that the state has no use for. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{input} is out of turn while the update is {state}")]
pub struct OutOfTurn {
    /// Name of the state.
    pub state: &'static str,
    /// Name of the input.
    pub input: &'static str,
}

/// One vehicle's update.
#[derive(Clone, Debug)]
pub struct Update {
    state: State,
    policy: ActivationPolicy,
    /// Whether the Director assigned the release in this run. What was believed before the vehicle was switched off may have been
    /// withdrawn since.
    assigned: bool,
    /// The OEM's software has ordered the armed model to take over.
    ordered: bool,
    /// What was offered in place of the recalled release.
    successor: Option<Offer>,
    outputs: VecDeque<Output>,
}

impl Update {
    /// Nothing is on its way.
    pub fn new(policy: ActivationPolicy) -> Self {
        Self { state: State::Idle, policy, assigned: false, ordered: false, successor: None, outputs: VecDeque::new() }
    }

    /// The release was confirmed before this start.
    pub fn confirmed(policy: ActivationPolicy, release: ReleaseRef) -> Self {
        Self { state: State::Confirmed(release), ..Self::new(policy) }
    }

    /// The release was complete in its slot when the vehicle was switched off: it goes on from there, up to the moment in which it
    /// would take over. That waits until the Director has [assigned](Input::Offered) the release again.
    pub fn staged(policy: ActivationPolicy, release: ReleaseRef) -> Self {
        let mut update = Self::new(policy);
        update.enter(State::Staged(release));
        update
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// [`OutOfTurn`] when the state has no use for it; nothing changed then.
    pub fn handle(&mut self, input: Input) -> Result<(), OutOfTurn> {
        let out_of_turn = OutOfTurn { state: self.stage().name(), input: input.name() };
        let before = self.state.clone();
        let assigned = matches!(input, Input::Offered(_));
        let after = self.next(before, input).ok_or(out_of_turn)?;
        self.assigned |= assigned;
        self.ordered &= matches!(after, State::Armed(..));
        if after.looks_like(&self.state) {
            self.state = after;
        } else {
            self.enter(after);
        }
        Ok(())
    }

    /// What to do next; `None` when there is nothing until something happens.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How far the update has come, as the vehicle reports it.
    pub fn stage(&self) -> UpdateState {
        self.state.stage()
    }

    /// The release that the update is about, or was about last.
    pub fn release(&self) -> Option<&ReleaseRef> {
        self.state.release()
    }

    /// Why it was refused or rolled back.
    pub fn reason(&self) -> Option<&Reason> {
        self.state.reason()
    }

    /// Whether the release is on its way; then no other one can be.
    pub fn is_under_way(&self) -> bool {
        self.state.is_under_way()
    }

    /// The state after `input`; `None` when it has no use for it.
    fn next(&mut self, state: State, input: Input) -> Option<State> {
        match state {
            State::Idle => self.settled(State::Idle, input),
            State::Offered(release) => match input {
                Input::Consent(Consent::Granted) => Some(State::Consented(release)),
                Input::Consent(Consent::Denied) => {
                    let reason =
                        Reason { number: CONSENT_DENIED, name: "consent_denied".into(), text: "the vehicle's software said no".into() };
                    Some(State::Refused(Some(release), reason))
                }
                Input::Consent(Consent::Later) => Some(State::Offered(release)),
                // Told again at every check: the time to ask again.
                Input::Offered(offer) if offer.release == release && offer.refusal.is_none() => {
                    self.outputs.push_back(Output::AskConsent);
                    Some(State::Offered(release))
                }
                input => self.interrupted(State::Offered(release), input),
            },
            State::Consented(release) => match input {
                Input::DownloadBegan => Some(State::Downloading(release)),
                input => self.interrupted(State::Consented(release), input),
            },
            State::Downloading(release) => match input {
                // The network came back.
                Input::DownloadBegan => Some(State::Downloading(release)),
                Input::Staged => Some(State::Staged(release)),
                input => self.interrupted(State::Downloading(release), input),
            },
            State::Staged(release) => match input {
                Input::SelfTestPassed => Some(State::SelfTested(release)),
                input => self.interrupted(State::Staged(release), input),
            },
            State::SelfTested(release) => match input {
                Input::ShadowBegan => Some(State::Shadow(release)),
                // Without an active model there is nothing to run beside.
                Input::Armed => Some(State::Armed(release, Takeover::Waiting)),
                input => self.interrupted(State::SelfTested(release), input),
            },
            State::Shadow(release) => match input {
                Input::Armed => Some(State::Armed(release, Takeover::Waiting)),
                input => self.interrupted(State::Shadow(release), input),
            },
            State::Armed(release, takeover) => self.armed(release, takeover, input),
            State::Trial(release, proof) => self.on_trial(release, proof, input),
            State::Confirmed(release) => self.settled(State::Confirmed(release), input),
            State::RolledBack(release, reason) => self.settled(State::RolledBack(release, reason), input),
            State::Refused(release, reason) => self.settled(State::Refused(release, reason), input),
        }
    }

    /// Nothing is on its way.
    fn settled(&mut self, state: State, input: Input) -> Option<State> {
        match input {
            Input::Offered(Offer { release, refusal: None }) => Some(State::Offered(release)),
            // The reason for which it was given up says more than that it was.
            Input::Offered(Offer { release, refusal: Some(_) }) if state.reason().is_some() && state.release() == Some(&release) => {
                Some(state)
            }
            Input::Offered(Offer { release, refusal: Some(reason) }) => Some(State::Refused(Some(release), reason)),
            Input::NotBelieved(reason) => Some(State::Refused(None, reason)),
            // What was refused is no longer asked for, so the vehicle is as it was before.
            Input::Withdrawn => Some(match state {
                State::Refused(..) => State::Idle,
                state => state,
            }),
            // The driver moved on, or an answer came late: nothing hangs on it here.
            Input::Vehicle(_) => Some(state),
            _ => None,
        }
    }

    /// What ends an update before its model may drive, and what does not matter to it.
    fn interrupted(&mut self, state: State, input: Input) -> Option<State> {
        let release = state.release()?.clone();
        match input {
            Input::Offered(offer) if offer.release == release && offer.refusal.is_none() => Some(state),
            Input::Offered(offer) => {
                self.abandon(&state, superseded(&offer.release), Blame::Nobody);
                self.settled(State::Idle, Input::Offered(offer))
            }
            Input::Withdrawn => {
                self.abandon(&state, withdrawn(), Blame::Nobody);
                Some(State::Idle)
            }
            Input::Failed(reason, blame) => {
                self.outputs.push_back(Output::RecordFailure(reason.clone(), blame));
                Some(State::Refused(Some(release), reason))
            }
            // What is on its way was believed when it was offered; the next check may say otherwise.
            Input::NotBelieved(_) | Input::Vehicle(_) => Some(state),
            _ => None,
        }
    }

    fn armed(&mut self, release: ReleaseRef, takeover: Takeover, input: Input) -> Option<State> {
        let permission = match &input {
            Input::Vehicle(vehicle) => self.permission(vehicle),
            _ => None,
        };
        match (takeover, input) {
            (Takeover::Held, Input::Armed) => {
                self.outputs.push_back(Output::ReturnTry);
                Some(State::Armed(release, Takeover::Waiting))
            }
            (Takeover::Recalled, Input::Failed(reason, blame)) => {
                let because = self.successor.as_ref().map_or_else(withdrawn, |offer| superseded(&offer.release));
                let reason = if blame == Blame::Nobody { because } else { reason };
                self.outputs.push_back(Output::RecordFailure(reason, blame));
                let successor = self.successor.take();
                successor.map_or(Some(State::Idle), |offer| self.settled(State::Idle, Input::Offered(offer)))
            }
            (Takeover::Ordered(_) | Takeover::Held | Takeover::Recalled, Input::Swapped) => {
                self.successor = None;
                Some(State::Trial(release, Proof::Running))
            }
            (Takeover::Recalled, Input::Offered(offer)) => {
                self.successor = Some(offer);
                Some(State::Armed(release, Takeover::Recalled))
            }
            (Takeover::Recalled, Input::Withdrawn) => {
                self.successor = None;
                Some(State::Armed(release, Takeover::Recalled))
            }
            // What the engine said before it was told.
            (Takeover::Recalled, Input::Armed | Input::Vehicle(_) | Input::Activate) => Some(State::Armed(release, Takeover::Recalled)),
            (Takeover::Ordered(_) | Takeover::Held, Input::Withdrawn) => Some(self.recall(release, None)),
            (Takeover::Ordered(_) | Takeover::Held, Input::Offered(offer)) if offer.release != release || offer.refusal.is_some() => {
                Some(self.recall(release, Some(offer)))
            }
            (Takeover::Waiting | Takeover::Recording(_) | Takeover::Ordered(_) | Takeover::Held, Input::Activate) if self.assigned => {
                self.ordered = true;
                Some(State::Armed(release, takeover))
            }
            (Takeover::Waiting, Input::Vehicle(_)) if let Some(permission) = permission => {
                self.outputs.push_back(Output::RecordTry);
                Some(State::Armed(release, Takeover::Recording(permission)))
            }
            (Takeover::Recording(permission), Input::TryRecorded) => {
                self.outputs.push_back(Output::Swap(permission));
                Some(State::Armed(release, Takeover::Ordered(permission)))
            }
            (Takeover::Recording(_), Input::RecordFailed(reason)) => {
                self.outputs.extend([Output::Cancel, Output::RecordFailure(reason.clone(), Blame::Circumstances)]);
                Some(State::Refused(Some(release), reason))
            }
            (Takeover::Ordered(before), Input::Vehicle(_)) => Some(State::Armed(release, self.order_again(before, permission))),
            (_, input) => self.interrupted(State::Armed(release, takeover), input),
        }
    }

    /// At which frames the armed model may take over, if it may be ordered to now.
    fn permission(&self, vehicle: &VehicleState) -> Option<Permission> {
        if !self.assigned || !vehicle.has_frames {
            return None;
        }
        if self.ordered { Some(Permission::Anytime) } else { self.policy.permission(vehicle) }
    }

    /// The order stands only while the vehicle permits it. One that waits for a drive that begins tomorrow would have its try on record
    /// until then, and every power cut would count against a model that has not answered a frame.
    fn order_again(&mut self, before: Permission, now: Option<Permission>) -> Takeover {
        match now {
            Some(now) if now == before => Takeover::Ordered(before),
            Some(now) => {
                self.outputs.push_back(Output::Swap(now));
                Takeover::Ordered(now)
            }
            None => {
                self.outputs.push_back(Output::Hold);
                Takeover::Held
            }
        }
    }

    /// Takes an ordered model back. The frame that swaps may be running: the engine says who was faster.
    fn recall(&mut self, release: ReleaseRef, successor: Option<Offer>) -> State {
        self.successor = successor;
        self.outputs.push_back(Output::Cancel);
        State::Armed(release, Takeover::Recalled)
    }

    fn on_trial(&mut self, release: ReleaseRef, proof: Proof, input: Input) -> Option<State> {
        match (proof, input) {
            (Proof::Running, Input::TrialPassed) | (Proof::Unrecorded, Input::Vehicle(_)) => {
                self.outputs.push_back(Output::RecordConfirmation);
                Some(State::Trial(release, Proof::Recording))
            }
            (Proof::Recording, Input::ConfirmationRecorded) => {
                self.outputs.push_back(Output::Confirm);
                Some(State::Trial(release, Proof::Recorded))
            }
            (Proof::Recorded, Input::Confirmed) => Some(State::Confirmed(release)),
            (Proof::Recording, Input::RecordFailed(_)) => Some(State::Trial(release, Proof::Unrecorded)),
            (_, Input::Failed(reason, blame)) => {
                self.outputs.push_back(Output::RecordFailure(reason.clone(), blame));
                Some(State::RolledBack(release, reason))
            }
            // It drives: whether it stays is for its trial to say, not for an offer.
            (proof, Input::Offered(_) | Input::Withdrawn | Input::NotBelieved(_) | Input::Vehicle(_) | Input::Activate) => {
                Some(State::Trial(release, proof))
            }
            _ => None,
        }
    }

    /// Gives up what is on its way although nothing is wrong with it.
    fn abandon(&mut self, state: &State, reason: Reason, blame: Blame) {
        match state {
            State::Idle | State::Confirmed(_) | State::RolledBack(..) | State::Refused(..) | State::Trial(..) => {}
            // Nothing was written yet.
            State::Offered(_) | State::Consented(_) => {}
            // The download stays where it is: the next one overwrites it, or goes on with it if it is offered again.
            State::Downloading(_) => {}
            State::Staged(_) | State::SelfTested(_) | State::Shadow(_) | State::Armed(..) => {
                self.outputs.extend([Output::Cancel, Output::RecordFailure(reason, blame)]);
            }
        }
    }

    /// Goes to another state, says so, and asks for what it begins with.
    fn enter(&mut self, state: State) {
        // What the step before asked for comes first: the record of a failure before the word of it.
        let begin = match &state {
            State::Offered(_) => Some(Output::AskConsent),
            State::Consented(_) => Some(Output::Download),
            State::Staged(_) => Some(Output::Load),
            State::Idle
            | State::Downloading(_)
            | State::SelfTested(_)
            | State::Shadow(_)
            | State::Armed(..)
            | State::Trial(..)
            | State::Confirmed(_)
            | State::RolledBack(..)
            | State::Refused(..) => None,
        };
        self.state = state;
        self.outputs.push_back(Output::Changed(self.stage()));
        self.outputs.extend(begin);
    }
}

/// The OEM's software denied consent.
pub(crate) const CONSENT_DENIED: u32 = 500;
/// The Director assigned another release before this one could drive.
const SUPERSEDED: u32 = 501;
/// The Director no longer assigns the release.
const WITHDRAWN: u32 = 502;

fn superseded(by: &ReleaseRef) -> Reason {
    let text = format!("the Director assigned {} {} instead", by.model, by.version);
    Reason { number: SUPERSEDED, name: "superseded".into(), text }
}

fn withdrawn() -> Reason {
    Reason { number: WITHDRAWN, name: "withdrawn".into(), text: "the Director no longer assigns it".into() }
}

impl Input {
    fn name(&self) -> &'static str {
        match self {
            Self::Offered(_) => "an offer",
            Self::Withdrawn => "a withdrawal",
            Self::NotBelieved(_) => "a refusal of the metadata",
            Self::Consent(_) => "a consent",
            Self::DownloadBegan => "the beginning of a download",
            Self::Staged => "the end of a download",
            Self::SelfTestPassed => "a self-test",
            Self::ShadowBegan => "the beginning of a shadow run",
            Self::Armed => "the end of a shadow run",
            Self::Vehicle(_) => "the state of the vehicle",
            Self::Activate => "an order to activate",
            Self::TryRecorded => "the record of a try",
            Self::Swapped => "a swap",
            Self::TrialPassed => "the end of a trial",
            Self::ConfirmationRecorded => "the record of a confirmation",
            Self::Confirmed => "a confirmation",
            Self::RecordFailed(_) => "a failed record",
            Self::Failed(..) => "a failure",
        }
    }
}
