//! A shard whose server answers at once: what is left to measure is the router.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_core::{
    Fence, Key, SCHEMA_VERSION, ShardClaims, ShardIdentity, Slot, SlotClaim, SlotState,
    slot::even_share,
};
use freehold_router::ShardSpec;
use freehold_storage::{
    Columns, DataConnection, ExpireRow, Inspected, OtherServer, Outcome, PutRow, Read, Row,
    ScanPage, ScanRange, Server, StorageError, Value, Write,
};

/// What every key has.
const VALUE: Bytes = Bytes::from_static(&[7; 100]);

/// One of so many shards that share all slots.
#[derive(Debug, Clone)]
struct Instant {
    name: Arc<str>,
    index: usize,
    shards: usize,
}

/// All shards of a cluster.
pub(super) fn specs(shards: usize) -> Vec<ShardSpec> {
    let spec = |index| {
        let name: Arc<str> = format!("shard-{index}").into();
        ShardSpec {
            name: name.to_string(),
            servers: vec![Server::Other(Arc::new(Instant {
                name,
                index,
                shards,
            }))],
        }
    };
    (0..shards).map(spec).collect()
}

#[async_trait]
impl OtherServer for Instant {
    fn address(&self) -> &str {
        &self.name
    }

    async fn connect(&self) -> Result<Box<dyn DataConnection>, StorageError> {
        Ok(Box::new(self.clone()))
    }
}

impl Instant {
    const fn fence(&self) -> Fence {
        Fence {
            server_id: self.index as u64 + 1,
            stamp: 1,
            term: 1,
            epoch: 1,
        }
    }
}

fn row() -> Row {
    Row {
        version: 1,
        ttl_ms: None,
        value: Value::Bytes(VALUE),
    }
}

#[async_trait]
impl DataConnection for Instant {
    async fn put(&mut self, _fence: &Fence, rows: &[PutRow]) -> Vec<Outcome<()>> {
        vec![Outcome::Applied(()); rows.len()]
    }

    async fn delete(&mut self, _fence: &Fence, keys: &[Key]) -> Vec<Outcome<bool>> {
        vec![Outcome::Applied(true); keys.len()]
    }

    async fn expire(&mut self, _fence: &Fence, rows: &[ExpireRow]) -> Vec<Outcome<bool>> {
        vec![Outcome::Applied(true); rows.len()]
    }

    async fn write_logged(&mut self, _fence: &Fence, rows: Write<'_>) -> Vec<Outcome<bool>> {
        vec![Outcome::Applied(true); rows.len()]
    }

    async fn read(&mut self, keys: &[Key], _columns: Columns) -> Result<Read, StorageError> {
        let fence = self.fence();
        Ok(Read {
            beat: None,
            fence,
            answered_by: fence.server_id,
            rows: keys.iter().map(|_| Some(row())).collect(),
        })
    }

    async fn written_position(&mut self) -> Result<Option<freehold_core::Position>, StorageError> {
        Ok(None)
    }

    async fn scan(&mut self, _range: &ScanRange) -> Result<ScanPage, StorageError> {
        let fence = self.fence();
        Ok(ScanPage {
            beat: None,
            fence,
            answered_by: fence.server_id,
            rows: Vec::new(),
            complete: true,
        })
    }

    async fn inspect(&mut self, _key: &Key) -> Result<Inspected, StorageError> {
        let fence = self.fence();
        Ok(Inspected {
            fence,
            answered_by: fence.server_id,
            row: None,
        })
    }

    async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
        let fence = self.fence();
        let claim = |slot| SlotClaim {
            slot: Slot(slot),
            state: SlotState::Owned,
            slot_epoch: 1,
            peer: None,
            since_epoch: fence.epoch,
        };
        let slots = even_share(self.index, self.shards);
        Ok(ShardClaims {
            identity: ShardIdentity {
                name: self.name.to_string(),
                cluster_id: 7,
                schema_version: SCHEMA_VERSION,
            },
            answered_by: fence.server_id,
            fence,
            claims: slots
                .filter(|_| above_epoch < fence.epoch)
                .map(claim)
                .collect(),
        })
    }

    async fn ping(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
