//! The place for servers that are none of this crate's: a benchmark's that answers at once, a test's
//! that fails on cue.

use std::fmt::Debug;

use async_trait::async_trait;
use freehold_core::{Fence, ShardClaims, Slot};

use crate::{
    data::DataConnection,
    error::StorageError,
    promotion::{Copying, Part, PromotionConnection},
};

/// A server that somebody else makes connections to. It serves requests alone: it is neither swept
/// nor set up.
#[async_trait]
pub trait OtherServer: Debug + Send + Sync {
    /// What it is called in metrics and messages.
    fn address(&self) -> &str;

    /// Opens a connection, also for writes: what was asked of one is over when its call is.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`], or [`StorageError::Refused`] if it is turned down.
    async fn connect(&self) -> Result<Box<dyn DataConnection>, StorageError>;
}

/// What sweeping it or setting it up ends in.
pub(crate) fn serves_requests_alone(address: &str) -> StorageError {
    StorageError::Unreachable {
        reason: format!("{address} serves requests alone").into(),
    }
}

/// A connection to a server that has no replicas: it leads.
pub(crate) struct LeadsAlone(pub(crate) Box<dyn DataConnection>);

#[async_trait]
impl PromotionConnection for LeadsAlone {
    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
        self.0.claims(above_epoch).await
    }

    async fn part(&mut self) -> Result<Part, StorageError> {
        Ok(Part {
            read_only: false,
            copying: Ok(Copying::default()),
        })
    }

    async fn adopt(&mut self, _: &Fence, _: &Fence) -> Result<bool, StorageError> {
        Err(serves_requests_alone("it"))
    }

    async fn stop_moves_of(&mut self, _: &[(Slot, u64)]) -> Result<ShardClaims, StorageError> {
        Err(serves_requests_alone("it"))
    }

    async fn serve_compared(&mut self, _: &Fence, _: &[Slot]) -> Result<bool, StorageError> {
        Err(serves_requests_alone("it"))
    }
}
