//! Scenes for [`crate::fence_locks`]: a write that is open, a change of epoch beside it, and who
//! waits for whom.

use std::time::Duration;

use freehold_core::Key;
use freehold_storage::{ExpireRow, Outcome, SweepConnection};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    audit::Audit,
    lane::{Lane, row},
    store::{Result, Store, WITHIN},
};

/// The fenced writes: a lane's three, and the sweeper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Put,
    Delete,
    Expire,
    Sweep,
}

/// Connections to write with.
pub(crate) struct Writer {
    pub(crate) lane: Lane,
    sweep: Box<dyn SweepConnection>,
}

impl Writer {
    pub(crate) async fn open(store: &Store) -> Result<Self> {
        Ok(Self {
            lane: store.lane().await?,
            sweep: store.sweep().await?,
        })
    }
}

impl Write {
    pub(crate) const ALL: [Self; 4] = [Self::Put, Self::Delete, Self::Expire, Self::Sweep];

    /// Makes the key's row such that the write changes it, and opens connections to do it with.
    pub(crate) async fn prepare(self, store: &Store, key: &Key) -> Result<Writer> {
        let mut writer = Writer::open(store).await?;
        writer.lane.put([row(key, "old")]).await?;
        if self == Self::Sweep {
            store
                .audit()
                .await?
                .run("UPDATE store SET expires_at = 1000")
                .await?;
        }
        Ok(writer)
    }

    /// Writes the key as the lane's fence allows.
    pub(crate) async fn run(self, writer: &mut Writer, key: &Key) -> Outcome<()> {
        let fence = writer.lane.fence;
        let keys = std::slice::from_ref(key);
        let data = &mut writer.lane.data;
        match self {
            Self::Put => data.put(&fence, &[row(key, "new")]).await.remove(0),
            Self::Delete => found(data.delete(&fence, keys).await.remove(0)),
            Self::Expire => {
                let rows = [ExpireRow {
                    key: key.clone(),
                    ttl_ms: Some(3_600_000),
                }];
                found(data.expire(&fence, &rows).await.remove(0))
            }
            Self::Sweep => match writer.sweep.delete_due(&fence, keys).await {
                Outcome::Applied(count) => found(Outcome::Applied(count == 1)),
                Outcome::FenceDisagrees => Outcome::FenceDisagrees,
                Outcome::Failed(error) => Outcome::Failed(error),
            },
        }
    }
}

/// A write that was applied found its row, in these scenes.
fn found(outcome: Outcome<bool>) -> Outcome<()> {
    match outcome {
        Outcome::Applied(existed) => {
            assert!(existed, "the row was there");
            Outcome::Applied(())
        }
        Outcome::FenceDisagrees => Outcome::FenceDisagrees,
        Outcome::Failed(error) => Outcome::Failed(error),
    }
}

/// What became of a change of epoch that met an open transaction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Waited,
    Overtook,
}

/// Two connections that are open before the clock of a lock wait starts to run.
pub(crate) struct Watch {
    changer: Audit,
    watcher: Audit,
}

impl Watch {
    pub(crate) async fn new(store: &Store) -> Result<Self> {
        Ok(Self {
            changer: store.audit().await?,
            watcher: store.audit().await?,
        })
    }

    /// Returns when somebody waits for a row, or the task is done.
    pub(crate) async fn until_waiting<T>(&mut self, task: &JoinHandle<T>) -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while waiting(&mut self.watcher).await?.is_empty() && !task.is_finished() {
            if Instant::now() >= deadline {
                return Err("nobody waits for the row".into());
            }
            sleep(POLL_PAUSE).await;
        }
        Ok(())
    }

    /// Sends a change of epoch and tells whether it waits. It ends with [`Sent::finish`].
    pub(crate) async fn change_epoch(mut self) -> Result<(Change, Sent)> {
        let thread = self.changer.number("SELECT CONNECTION_ID()").await?;
        let mut changer = self.changer;
        let task = tokio::spawn(async move {
            let change = "UPDATE shard SET epoch = epoch + 1, stamp = stamp + 1 WHERE id = 1";
            changer.run(change).await
        });
        let deadline = Instant::now() + WITHIN;
        while Instant::now() < deadline {
            if task.is_finished() {
                return Ok((Change::Overtook, Sent(task)));
            }
            if waiting(&mut self.watcher).await?.contains(&thread) {
                return Ok((Change::Waited, Sent(task)));
            }
            sleep(POLL_PAUSE).await;
        }
        Err("the change of epoch neither ended nor waited for a lock".into())
    }
}

/// A change of epoch that was sent.
pub(crate) struct Sent(JoinHandle<Result<()>>);

impl Sent {
    pub(crate) async fn finish(self) -> Result<()> {
        timeout(WITHIN, self.0).await??
    }
}

/// InnoDB shows its transactions from a copy, which it makes anew only if nobody looked at the old
/// one for 100 ms.
const POLL_PAUSE: Duration = Duration::from_millis(150);

/// The connections that wait for a row's lock.
async fn waiting(audit: &mut Audit) -> Result<Vec<i64>> {
    let query = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx \
                 WHERE trx_state = 'LOCK WAIT'";
    let rows = audit.rows(query).await?.concat();
    Ok(rows
        .iter()
        .map(|thread| thread.parse())
        .collect::<Result<_, _>>()?)
}
