//! The heartbeat: one row that one writer per shard advances.

/// What the heartbeat's row shows.
///
/// A server that shows a beat has everything that its shard's master committed before that beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Beat {
    /// The term of the master that wrote it: numbers of another term say nothing.
    pub term: u64,
    /// Each beat adds one. 0 is no beat: it is what `init` leaves behind.
    pub seq: u64,
}
