//! How far a move is, in plain values.

use std::time::Duration;

use async_trait::async_trait;

/// How far a move is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Slots of the move.
    pub slots: u64,
    /// Those of them that are through: with a new owner, or back with the old one.
    pub slots_done: u64,
    /// Those of these that have a new owner.
    pub slots_moved: u64,
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Rows that were compared.
    pub rows_verified: u64,
    /// Whether both shards have it in writing: from then on somebody else can go on with the move.
    pub written_down: bool,
    /// What is being done.
    pub doing: &'static str,
    /// How much of the time it rests between pages, so that requests do not wait for it.
    pub resting_percent: u64,
    /// The pauses of writes so far, one for each part that changed hands, in order.
    pub pauses: Vec<Pause>,
    /// Why the last attempt at a batch ended, if one did.
    pub repeated: Option<String>,
}

impl Progress {
    /// The longest pause.
    #[must_use]
    pub fn pause_max(&self) -> Duration {
        let pauses = self.pauses.iter().map(Pause::whole);
        pauses.max().unwrap_or_default()
    }
}

/// How long writes to slots that changed hands together waited, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pause {
    /// How many slots that were.
    pub slots: usize,
    /// For the writes in flight, and the commit that stops the others.
    pub fence: Duration,
    /// For the last keys to be copied and compared.
    pub drain: Duration,
    /// For replicas that may be promoted, before and after the owner changed.
    pub replicas: Duration,
    /// For the commits that make the target the owner, or the source again; and for attempts and movers
    /// that came to nothing in between.
    pub opening: Duration,
}

impl Pause {
    /// All of it.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.fence + self.drain + self.replicas + self.opening
    }
}

/// A place between two steps: where a test stops a mover, or lets something happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// The slots were taken over.
    TakenOver,
    /// Step 1.
    Received,
    /// Step 2.
    Announced,
    /// Within step 3.
    PageCopied,
    /// Step 3.
    Copied,
    /// Step 4.
    Drained,
    /// Step 5.
    Verified,
    /// Step 6.
    Fenced,
    /// Within step 7.
    LastDrained,
    /// Step 7.
    Reached,
    /// Step 8, before the wait.
    GivenAway,
    /// Step 8.
    GoneEverywhere,
    /// Step 9.
    Opened,
    /// Step 10.
    Cleaned,
    /// A cancel: the source owns the slots again.
    Returned,
    /// A cancel: the target is empty.
    Emptied,
    /// A cancel: the target is closed.
    Closed,
}

impl Point {
    /// All of them, those of a cancel last.
    pub const ALL: [Self; 17] = [
        Self::TakenOver,
        Self::Received,
        Self::Announced,
        Self::PageCopied,
        Self::Copied,
        Self::Drained,
        Self::Verified,
        Self::Fenced,
        Self::LastDrained,
        Self::Reached,
        Self::GivenAway,
        Self::GoneEverywhere,
        Self::Opened,
        Self::Cleaned,
        Self::Returned,
        Self::Emptied,
        Self::Closed,
    ];
}

/// Somebody who watches where a mover is. What is done here holds the mover up.
#[async_trait]
pub trait Points: Send + Sync {
    /// The mover has come so far.
    async fn at(&self, point: Point);
}

/// Nobody watches.
#[async_trait]
impl Points for () {
    async fn at(&self, _: Point) {}
}
