//! The guards of the protocol. A model can be made without one of them, and must then fail.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Guard {
    PageWritesProveTheAttempt,
    AttemptsAreRandom,
    StampsAreRandom,
    TakesOverBeforeItDecides,
    DrainsUnderTheFence,
    VerifiesUnderTheFence,
    SeesFailovers,
    WaitsAtStart,
    WaitsBeforeGivingAway,
    WaitsBeforeOpening,
    WaitsForWhatWasVerified,
    GivesAwayBeforeItOpens,
    CancelWaits,
    IncomingIsNoClaim,
    // Beyond the design's list:
    StepsProveTheTerm,
    SeesLostPositions,
    WriteProvesTheFence,
    ForgetsOnlyWhatItRead,
    AdopterStopsThePeer,
}

/// All guards but some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guards {
    pub(crate) without: &'static [Guard],
}

impl Guards {
    pub(crate) const ALL: Self = Self { without: &[] };

    pub(crate) fn holds(self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }
}
