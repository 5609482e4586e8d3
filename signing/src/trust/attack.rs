use core::fmt;

/// An attack by its name in the Uptane Standard (section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Attack {
    /// Somebody keeps the vehicle from its updates.
    DropRequest,
    /// Old metadata is shown for ever, so that the vehicle does not notice newer one.
    Freeze,
    /// Older metadata or software is offered as new.
    Rollback,
    /// Data at a trickle, so that an update never ends and never fails.
    SlowRetrieval,
    /// Data without end, to exhaust the vehicle.
    EndlessData,
    /// Metadata or images that never existed together.
    MixAndMatch,
    /// Software of the attacker's choice.
    ArbitrarySoftware,
}

impl Attack {
    /// The name in the Standard.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DropRequest => "drop-request attack",
            Self::Freeze => "freeze attack",
            Self::Rollback => "rollback attack",
            Self::SlowRetrieval => "slow retrieval attack",
            Self::EndlessData => "endless data attack",
            Self::MixAndMatch => "mix-and-match attack",
            Self::ArbitrarySoftware => "arbitrary software attack",
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
