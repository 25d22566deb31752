//! What one line of a recorded history can say. Times are nanoseconds of one monotonic clock.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// Which run it is.
    Run(Run),
    /// A request on one key, or one item of a batch or pipeline.
    Operation(Operation),
    /// A walk.
    Scan(Scan),
    /// A look at a database's clock.
    Clock(Clock),
    /// Something was broken, from here to there.
    Fault(Span),
    /// The recording machine itself stood still.
    Pause(Span),
    /// A row of the final audit.
    Row(Row),
    /// The final audit itself. Keys without a row are absent.
    Audit(Span),
}

/// Which run it is, and how to repeat it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What its random choices began with.
    pub seed: u64,
    /// The command line that repeats it.
    pub command: String,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was acknowledged; a read was answered.
    Applied,
    /// It was said not to be applied; a read was not answered.
    NotApplied,
    /// It may be applied, then, later, or never.
    Unknown,
}

/// What a read promised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The latest acknowledged write.
    #[default]
    Strong,
    /// Some past state.
    Eventual,
    /// Never older than this before the request began.
    Bounded {
        /// In milliseconds.
        max_staleness_ms: i64,
    },
    /// At least the write with this id.
    Session {
        /// The operation the token came from; absent for a session that has written nothing yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_of: Option<u64>,
    },
}

/// What a read showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Whether the key was there.
    pub live: bool,
    /// Its value; absent if the method does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How long it had to live, in milliseconds; -1 is for ever; absent if not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<i64>,
}

/// What was asked for, and what came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stores a value that no other operation of the run stores.
    Put {
        /// The value.
        value: String,
        /// Its time to live in milliseconds; absent never expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<i64>,
    },
    /// Removes the key.
    Delete {
        /// Whether it was there; absent if the answer was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        existed: Option<bool>,
    },
    /// Changes how long a live key has to live.
    Expire {
        /// In milliseconds; absent never expires.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<i64>,
        /// Whether it was there; absent if the answer was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        existed: Option<bool>,
    },
    /// Reads it.
    Get {
        /// Absent if there was no answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<Seen>,
    },
}

/// A request on one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the run.
    pub id: u64,
    /// Who asked: one client is one session, and has one request under way at a time unless it
    /// pipelines.
    pub client: u32,
    /// The key.
    pub key: String,
    /// Before it was sent.
    pub start_ns: i64,
    /// After it was answered, or given up.
    pub end_ns: i64,
    /// When it had to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ns: Option<i64>,
    /// What was asked for, and what came back.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// What a read promised.
    #[serde(default)]
    pub level: Level,
    /// Whether a replica answered a read.
    #[serde(default)]
    pub by_replica: bool,
    /// The answer's own bound of its age, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness_ms: Option<i64>,
    /// The method and the router it went through, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
    /// gRPC's code and the reason of the `ErrorInfo`, such as `UNAVAILABLE SHARD_UNAVAILABLE`; a
    /// code alone came without `ErrorInfo`; empty if it ended well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// What was said besides, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub words: String,
}

/// A walk over all keys with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Unique in the run, among operations too.
    pub id: u64,
    /// Before it was sent.
    pub start_ns: i64,
    /// After its last row.
    pub end_ns: i64,
    /// When it had to be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ns: Option<i64>,
    /// What all its keys begin with.
    pub prefix: String,
    /// Whether it came to its end; if not, only what it showed is checked.
    pub is_complete: bool,
    /// What the reads of it promised.
    #[serde(default)]
    pub level: Level,
    /// Keys and values in the order in which they came.
    pub rows: Vec<(String, String)>,
    /// As an operation's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
}

/// A look at a database's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Which server.
    pub server: String,
    /// Before the question was sent.
    pub before_ns: i64,
    /// After it was answered.
    pub after_ns: i64,
    /// What the database said: milliseconds since 1970.
    pub database_ms: i64,
}

/// Something that lasted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When it began.
    pub start_ns: i64,
    /// When it was over.
    pub end_ns: i64,
    /// What it was, for people.
    pub what: String,
}

/// A row of the final audit, read by SQL on a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// On which shard's master.
    pub shard: String,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether the database's clock said that it lives.
    pub live: bool,
    /// Whether this shard owns its slot. What lies elsewhere is no answer to any read.
    #[serde(default = "yes")]
    pub owned: bool,
}

fn yes() -> bool {
    true
}
