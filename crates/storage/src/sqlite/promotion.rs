//! A file has no replicas: whoever opens it leads.

use async_trait::async_trait;
use freehold_core::{Fence, ShardClaims, Slot};

use super::SqliteConnection;
use crate::{
    data::DataConnection,
    error::{Refusal, StorageError},
    promotion::{Copying, Part, PromotionConnection},
};

#[async_trait]
impl PromotionConnection for SqliteConnection {
    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
        DataConnection::claims(self, above_epoch).await
    }

    async fn part(&mut self) -> Result<Part, StorageError> {
        Ok(Part {
            read_only: false,
            copying: Ok(Copying::default()),
        })
    }

    async fn adopt(&mut self, _: &Fence, _: &Fence) -> Result<bool, StorageError> {
        Err(never_promoted())
    }

    async fn stop_moves_of(&mut self, _: &[(Slot, u64)]) -> Result<ShardClaims, StorageError> {
        Err(never_promoted())
    }

    async fn serve_compared(&mut self, _: &Fence, _: &[Slot]) -> Result<bool, StorageError> {
        Err(never_promoted())
    }
}

fn never_promoted() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Other,
        code: 0,
        message: "a file is never promoted".into(),
    }
}
