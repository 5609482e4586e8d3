//! How far an update has come, and what is remembered on the way.

use std::mem;

use switchback_signing::metadata::vehicle::{Reason, ReleaseRef, UpdateState};

use super::Permission;

/// How far the update has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Idle,
    Offered(ReleaseRef),
    Consented(ReleaseRef),
    Downloading(ReleaseRef),
    Staged(ReleaseRef),
    SelfTested(ReleaseRef),
    Shadow(ReleaseRef),
    Armed(ReleaseRef, Takeover),
    Trial(ReleaseRef, Proof),
    Confirmed(ReleaseRef),
    RolledBack(ReleaseRef, Reason),
    /// Without a release when the metadata itself was not believed.
    Refused(Option<ReleaseRef>, Reason),
}

/// How far an armed model is from taking over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takeover {
    /// Waits until the policy permits it.
    Waiting,
    /// The try is being recorded.
    Recording(Permission),
    /// The engine has been told; a frame decides.
    Ordered(Permission),
    /// No frame may take it for now; the engine has been told, and a frame may have been faster.
    Held,
    /// The release is no longer wanted; the engine has been told, and a frame may have been faster.
    Recalled,
}

/// How far a trial is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Frames are being answered.
    Running,
    /// Passed; the confirmation is being recorded.
    Recording,
    /// Passed, but the disk refused the confirmation; asked for again when the vehicle's state is told next.
    Unrecorded,
    /// On record; the previous model is let go at the next frame. Until then the model can still fail its trial.
    Recorded,
}

impl State {
    /// As the vehicle reports it.
    pub(super) fn stage(&self) -> UpdateState {
        match self {
            Self::Idle => UpdateState::Idle,
            Self::Offered(_) => UpdateState::Offered,
            Self::Consented(_) => UpdateState::Consented,
            Self::Downloading(_) => UpdateState::Downloading,
            Self::Staged(_) => UpdateState::Staged,
            Self::SelfTested(_) => UpdateState::SelfTested,
            Self::Shadow(_) => UpdateState::Shadow,
            Self::Armed(..) => UpdateState::Armed,
            Self::Trial(..) => UpdateState::Trial,
            Self::Confirmed(_) => UpdateState::Confirmed,
            Self::RolledBack(..) => UpdateState::RolledBack,
            Self::Refused(..) => UpdateState::Refused,
        }
    }

    /// Whether nobody outside could tell the two apart.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        mem::discriminant(self) == mem::discriminant(other) && self.release() == other.release() && self.reason() == other.reason()
    }

    pub(super) fn release(&self) -> Option<&ReleaseRef> {
        match self {
            Self::Idle => None,
            Self::Offered(release)
            | Self::Consented(release)
            | Self::Downloading(release)
            | Self::Staged(release)
            | Self::SelfTested(release)
            | Self::Shadow(release)
            | Self::Armed(release, _)
            | Self::Trial(release, _)
            | Self::Confirmed(release)
            | Self::RolledBack(release, _) => Some(release),
            Self::Refused(release, _) => release.as_ref(),
        }
    }

    pub(super) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::RolledBack(_, reason) | Self::Refused(_, reason) => Some(reason),
            Self::Idle
            | Self::Offered(_)
            | Self::Consented(_)
            | Self::Downloading(_)
            | Self::Staged(_)
            | Self::SelfTested(_)
            | Self::Shadow(_)
            | Self::Armed(..)
            | Self::Trial(..)
            | Self::Confirmed(_) => None,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        match self {
            Self::Idle | Self::Confirmed(_) | Self::RolledBack(..) | Self::Refused(..) => false,
            Self::Offered(_)
            | Self::Consented(_)
            | Self::Downloading(_)
            | Self::Staged(_)
            | Self::SelfTested(_)
            | Self::Shadow(_)
            | Self::Armed(..)
            | Self::Trial(..) => true,
        }
    }
}
