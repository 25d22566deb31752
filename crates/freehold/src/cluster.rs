//! Work on the servers themselves: `init`, `migrate` and `doctor`.
//!
//! [`servers`] opens them, [`survey`] asks each what it is and how far its tables are, and what to
//! make of that is decided by pure functions: [`findings`] judges settings, [`plan`] decides what
//! `init` does. [`init`], [`join`] and [`migrate`] then do it.

pub(crate) mod findings;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod migrate;
pub(crate) mod plan;
pub(crate) mod servers;
pub(crate) mod survey;

use freehold_storage::StorageError;
use serde_json::{Value, json};

use self::{findings::Finding, plan::PlanError};

/// Servers that work on at once: a cluster of hundreds takes seconds, and opens no hundreds of
/// connections at a moment.
const SERVERS_AT_ONCE: usize = 16;

/// Why a cluster could not be worked on. Each names the shard and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// A server did not do as it was asked.
    #[error("shard '{shard}' ({address}): {doing}: {error}")]
    Server {
        /// Whose.
        shard: String,
        /// Where.
        address: String,
        /// What was going on.
        doing: &'static str,
        /// What came back.
        error: StorageError,
    },
    /// Servers are set in a way that loses or breaks data.
    #[error("{}", unfit(.0))]
    Unfit(Vec<Finding>),
    /// `init` has nothing to do, or must not do it.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// `migrate` cannot go on from here.
    #[error("shard '{shard}' ({address}): {words}")]
    Migrate {
        /// Whose.
        shard: String,
        /// Where.
        address: String,
        /// Why, and what to do.
        words: String,
    },
}

impl ClusterError {
    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let message = self.to_string();
        match self {
            Self::Server { shard, address, .. } | Self::Migrate { shard, address, .. } => json!({
                "kind": "server", "shard": shard, "server": address, "message": message,
            }),
            Self::Unfit(findings) => {
                json!({ "kind": "unfit", "message": message, "findings": findings })
            }
            Self::Plan(error) => {
                json!({ "kind": "init_refused", "shard": error.shard(), "message": message })
            }
        }
    }
}

fn unfit(findings: &[Finding]) -> String {
    let mut text = "not done, because servers are unfit:".to_owned();
    for finding in findings {
        text.push('\n');
        text.push_str(&finding.to_string());
    }
    text
}
