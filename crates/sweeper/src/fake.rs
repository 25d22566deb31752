//! A database of one shard for tests of the loop: what it answers, when, and what was deleted.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use freehold_core::{Fence, Key};
use freehold_storage::{
    Outcome, Refusal, StorageError, SweepConnection,
    sweep::{Due, Holder, Lease},
};
use tokio::time::{Instant, sleep};

use crate::connection::Dial;

/// A server and the connections to it; clones are the same server.
#[derive(Debug, Clone)]
pub(crate) struct Fake(Arc<Mutex<World>>);

/// All that a test can set and see.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rows: BTreeSet<Key>,
    pub(crate) fence: Fence,
    /// What a deletion finds there; differs from `fence` until the next read, to play a change.
    pub(crate) fence_at_deletion: Fence,
    /// Reads go on showing the old fence.
    pub(crate) fence_stays_behind: bool,
    /// Whose, until when by the database's clock.
    pub(crate) lease: Option<(u64, String, Instant)>,
    pub(crate) paused: bool,
    pub(crate) lag: Option<Duration>,
    pub(crate) purge_backlog: Result<Option<u64>, StorageError>,
    /// Nothing answers, new connections included.
    pub(crate) frozen: bool,
    /// Connections and attempts fail.
    pub(crate) down: bool,
    /// Only the lease does not answer.
    pub(crate) lease_frozen: bool,
    pub(crate) deletion_takes: Duration,
    /// Who deleted how many rows, from when to when.
    pub(crate) deletions: Vec<Deletion>,
    pub(crate) dials: Vec<Instant>,
    pub(crate) reads: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Deletion {
    pub(crate) rows: usize,
    pub(crate) started: Instant,
    /// `None` if nobody waited for it to the end.
    pub(crate) ended: Option<Instant>,
    pub(crate) lease_holder: Option<u64>,
}

pub(crate) const FENCE: Fence = Fence {
    server_id: 1,
    stamp: 1,
    term: 1,
    epoch: 1,
};

impl Fake {
    /// With so many rows that are due.
    pub(crate) fn with_rows(count: usize) -> Self {
        let key = |number: usize| Key::new(format!("key-{number:06}").into_bytes()).unwrap();
        Self(Arc::new(Mutex::new(World {
            rows: (0..count).map(key).collect(),
            fence: FENCE,
            fence_at_deletion: FENCE,
            fence_stays_behind: false,
            lease: None,
            paused: false,
            lag: Some(Duration::ZERO),
            purge_backlog: Ok(None),
            frozen: false,
            down: false,
            lease_frozen: false,
            deletion_takes: Duration::from_millis(10),
            deletions: Vec::new(),
            dials: Vec::new(),
            reads: 0,
        })))
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    async fn answer(&self) -> Result<(), StorageError> {
        if self.world().frozen {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(1)).await;
        if self.world().down {
            return Err(StorageError::Lost {
                reason: "reset by peer".into(),
            });
        }
        Ok(())
    }

    fn lease_of(&self, asker: u64) -> Lease {
        let world = self.world();
        let lease = world
            .lease
            .as_ref()
            .filter(|lease| Instant::now() < lease.2);
        Lease {
            held: lease.is_some_and(|lease| lease.0 == asker),
            holder: lease.map(|lease| lease.1.clone()),
            paused: world.paused,
        }
    }
}

#[async_trait]
impl Dial for Fake {
    async fn dial(&self) -> Result<Box<dyn SweepConnection>, StorageError> {
        self.world().dials.push(Instant::now());
        match self.answer().await {
            Ok(()) => Ok(Box::new(self.clone())),
            Err(_) => Err(StorageError::Unreachable {
                reason: "connection refused".into(),
            }),
        }
    }

    fn address(&self) -> &'static str {
        "fake:3306"
    }
}

#[async_trait]
impl SweepConnection for Fake {
    async fn lease(&mut self, holder: &Holder, length: Duration) -> Result<Lease, StorageError> {
        if self.world().lease_frozen {
            std::future::pending::<()>().await;
        }
        self.answer().await?;
        let now = Instant::now();
        let mut world = self.world();
        if world
            .lease
            .as_ref()
            .is_none_or(|lease| lease.0 == holder.id || now >= lease.2)
        {
            world.lease = Some((holder.id, holder.name.clone(), now + length));
        }
        drop(world);
        Ok(self.lease_of(holder.id))
    }

    async fn look_at_lease(&mut self) -> Result<Lease, StorageError> {
        self.answer().await?;
        Ok(self.lease_of(0))
    }

    async fn release_lease(&mut self, holder: &Holder) -> Result<(), StorageError> {
        self.answer().await?;
        self.world().lease.take_if(|lease| lease.0 == holder.id);
        Ok(())
    }

    async fn set_paused(&mut self, paused: bool) -> Result<(), StorageError> {
        self.answer().await?;
        self.world().paused = paused;
        Ok(())
    }

    async fn due(&mut self, rows_max: usize) -> Result<Due, StorageError> {
        self.answer().await?;
        let mut world = self.world();
        world.reads += 1;
        let due = Due {
            keys: world.rows.iter().take(rows_max).cloned().collect(),
            more: world.rows.len() > rows_max,
            oldest_ms: (!world.rows.is_empty()).then_some(1_000),
            fence: Some(world.fence),
        };
        // What changes the fence has done so by the next read.
        if !world.fence_stays_behind {
            world.fence = world.fence_at_deletion;
        }
        Ok(due)
    }

    async fn delete_due(&mut self, fence: &Fence, keys: &[Key]) -> Outcome<u64> {
        let index = {
            let mut world = self.world();
            let started = Instant::now();
            let lease_holder = world
                .lease
                .as_ref()
                .filter(|lease| started < lease.2)
                .map(|lease| lease.0);
            world.deletions.push(Deletion {
                rows: 0,
                started,
                ended: None,
                lease_holder,
            });
            world.deletions.len() - 1
        };
        let takes = self.world().deletion_takes;
        sleep(takes).await;
        if let Err(error) = self.answer().await {
            return Outcome::Failed(error);
        }
        let mut world = self.world();
        if !fence.agrees_with(&world.fence_at_deletion) {
            return Outcome::FenceDisagrees;
        }
        let deleted = keys.iter().filter(|key| world.rows.remove(*key)).count();
        world.deletions[index].rows = deleted;
        world.deletions[index].ended = Some(Instant::now());
        Outcome::Applied(deleted as u64)
    }

    async fn purge_backlog(&mut self) -> Result<Option<u64>, StorageError> {
        self.answer().await?;
        self.world().purge_backlog.clone()
    }

    async fn replica_lag(&mut self) -> Result<Option<Duration>, StorageError> {
        self.answer().await?;
        Ok(self.world().lag)
    }
}

/// What a server says to an account without the right.
pub(crate) fn denied() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Denied,
        code: 1227,
        message: "you need the PROCESS privilege".into(),
    }
}
