//! The ways to the data.

mod direct;
mod freehold;

use async_trait::async_trait;
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

use crate::{cluster::Cluster, error::Error};

/// A way to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// One prepared statement per key, one connection per caller: what a team writes itself.
    Direct,
    /// Freehold, one gRPC call per key.
    Unary,
    /// Freehold, all callers on one client of its own, which uses a `Pipeline` stream.
    Pipeline,
}

impl Target {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Unary => "unary",
            Self::Pipeline => "pipeline",
        }
    }

    /// So many callers, connected and ready.
    pub(crate) async fn callers(
        self,
        cluster: &Cluster,
        count: usize,
    ) -> Result<Vec<Box<dyn Caller>>, Error> {
        match self {
            Self::Direct => direct::callers(cluster, count).await,
            Self::Unary => freehold::unary_callers(cluster, count).await,
            Self::Pipeline => freehold::pipeline_callers(cluster, count).await,
        }
    }
}

/// Somebody with one request outstanding at a time.
#[async_trait]
pub(crate) trait Caller: Send {
    /// The value of a key.
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error>;

    /// Stores a value that never expires; returns when it is durable.
    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Error>;
}
