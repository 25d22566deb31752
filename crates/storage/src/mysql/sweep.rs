//! Sweeping: due rows are read without locks and deleted by primary key. (Deleted straight through
//! the index of expiries, they deadlock with PUTs: 289 to 356 times in 4 s, against none.)

use std::time::Duration;

use async_trait::async_trait;
use freehold_core::{
    Fence, Key,
    planted::{self, Bug},
};
use mysql_async::{Row as SqlRow, prelude::FromValue};

use super::{
    MysqlConnection,
    decode::{ShownFence, column},
    error::unexpected,
    read::no_fence,
    session::{Answer, Failure, Session, packet, query},
    statements::{FENCE, NOW, NOW_LOCKED, fence_holds, hex, keys_are},
    watch,
};
use crate::{
    error::{Outcome, Refusal, StorageError},
    sweep::{Due, Holder, Lease, SweepConnection},
};

/// The row of `leases` that sweepers share.
const TASK: &str = "task = 'sweep'";

/// A lease as one row: holder's id, its name, whether it is over, paused.
const LOOK: &str = "SELECT holder, holder_name, lease_until <= ROUND(UNIX_TIMESTAMP(SYSDATE(3)) * \
                    1000), paused FROM leases WHERE task = 'sweep'";

/// One row on a member of a replication group that is part of it now.
const IS_ONLINE: &str = "SELECT 1 FROM performance_schema.replication_group_members \
                         WHERE member_id = @@GLOBAL.server_uuid AND member_state = 'ONLINE'";

#[async_trait]
impl SweepConnection for MysqlConnection {
    async fn lease(&mut self, holder: &Holder, length: Duration) -> Result<Lease, StorageError> {
        let take = format!(
            "UPDATE leases SET holder = {id}, holder_name = {name}, \
             lease_until = {NOW_LOCKED} + {length} \
             WHERE {TASK} AND (holder = {id} OR lease_until <= {NOW_LOCKED})",
            id = holder.id,
            name = word(&holder.name),
            length = length.as_millis(),
        );
        self.change_lease(Some(holder), Some(take)).await
    }

    async fn look_at_lease(&mut self) -> Result<Lease, StorageError> {
        self.change_lease(None, None).await
    }

    async fn release_lease(&mut self, holder: &Holder) -> Result<(), StorageError> {
        let free = format!(
            "UPDATE leases SET holder = NULL, holder_name = NULL, lease_until = 0 \
             WHERE {TASK} AND holder = {}",
            holder.id
        );
        self.change_lease(None, Some(free)).await.map(drop)
    }

    async fn set_paused(&mut self, paused: bool) -> Result<(), StorageError> {
        let paused = u8::from(paused);
        let pause = format!("UPDATE leases SET paused = {paused} WHERE {TASK}");
        self.change_lease(None, Some(pause)).await.map(drop)
    }

    async fn due(&mut self, rows_max: usize) -> Result<Due, StorageError> {
        let mut session = self.take()?;
        let answer = query(&mut session.conn, due_text(rows_max)).await;
        let due = answer
            .map_err(|failure| failure.of_read())
            .and_then(|answer| decode_due(answer, rows_max));
        self.put_back(session, due.as_ref().err());
        due
    }

    async fn delete_due(&mut self, fence: &Fence, keys: &[Key]) -> Outcome<u64> {
        debug_assert!(keys.is_sorted_by(|a, b| a < b), "each key once, in order");
        let mut session = match self.take() {
            Ok(session) => session,
            Err(error) => return Outcome::Failed(error),
        };
        let outcome = delete_due(&mut session, fence, keys).await;
        let error = match &outcome {
            Outcome::Failed(error) => Some(error),
            _ => None,
        };
        self.put_back(session, error);
        outcome
    }

    async fn purge_backlog(&mut self) -> Result<Option<u64>, StorageError> {
        // MariaDB counts it among its status variables.
        let status = "SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'";
        if let Some(mut row) = self.ask(status.to_owned()).await?.rows.pop() {
            return column(&mut row, 1, "the purge backlog").map(Some);
        }
        let text = "SELECT status, `count` FROM information_schema.innodb_metrics \
                    WHERE name = 'trx_rseg_history_len'";
        let Some(mut row) = self.ask(text.to_owned()).await?.rows.pop() else {
            return Ok(None);
        };
        let status: String = column(&mut row, 0, "a metric's status")?;
        let records = column(&mut row, 1, "the purge backlog")?;
        // A metric that was switched off keeps its last value.
        Ok((status == "enabled").then_some(records))
    }

    async fn replica_lag(&mut self) -> Result<Option<Duration>, StorageError> {
        let mut session = self.take()?;
        let channels = watch::channels(&mut session).await;
        self.put_back(session, channels.as_ref().err());
        let channels = channels?;
        if channels.is_empty() {
            return self.group_lag().await;
        }
        let lags: Option<Vec<Duration>> = channels.iter().map(channel_lag).collect();
        // The slowest counts, and one that is unknown leaves all unknown.
        Ok(lags.and_then(|lags| lags.into_iter().max()))
    }
}

impl MysqlConnection {
    /// Sends a read as text.
    pub(super) async fn ask(&mut self, statement: String) -> Result<Answer, StorageError> {
        let mut session = self.take()?;
        let answer = query(&mut session.conn, statement)
            .await
            .map_err(|failure| failure.of_read());
        self.put_back(session, answer.as_ref().err());
        answer
    }

    /// A member of a group is no further behind than the group's flow control lets it be, which
    /// holds writes back itself: seconds are not to be had of it.
    async fn group_lag(&mut self) -> Result<Option<Duration>, StorageError> {
        match self.ask(IS_ONLINE.to_owned()).await {
            Ok(answer) => Ok((!answer.rows.is_empty()).then_some(Duration::ZERO)),
            // MariaDB has no such table, and MySQL shows it to those who may see it.
            Err(StorageError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a change, which is one statement, and looks at the lease behind it.
    async fn change_lease(
        &mut self,
        holder: Option<&Holder>,
        change: Option<String>,
    ) -> Result<Lease, StorageError> {
        let mut session = self.take()?;
        let is_write = change.is_some();
        let statements: Vec<String> = change.into_iter().chain([LOOK.to_owned()]).collect();
        let lease = packet(&mut session.conn, &statements)
            .await
            .map_err(|failure: Failure| match is_write {
                true => failure.of_write_at(0),
                false => failure.of_read(),
            })
            .and_then(|mut answers| decode_lease(answers.pop(), holder));
        self.put_back(session, lease.as_ref().err());
        lease
    }
}

fn decode_lease(answer: Option<Answer>, asker: Option<&Holder>) -> Result<Lease, StorageError> {
    let row = answer.and_then(|mut answer| answer.rows.pop());
    let mut row = row.ok_or_else(|| StorageError::Refused {
        refusal: Refusal::Schema,
        code: 0,
        message: "the sweeper's row in leases is missing: INSERT INTO leases \
                  (task, lease_until, paused) VALUES ('sweep', 0, FALSE)"
            .into(),
    })?;
    let id: Option<u64> = column(&mut row, 0, "a lease's holder")?;
    let name: Option<Vec<u8>> = column(&mut row, 1, "a lease's holder")?;
    let is_over: bool = column(&mut row, 2, "a lease's end")?;
    let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
    Ok(Lease {
        held: !is_over && asker.is_some_and(|asker| id == Some(asker.id)),
        holder: name.filter(|_| !is_over),
        paused: column(&mut row, 3, "whether a lease is paused")?,
    })
}

/// Text in a statement, whatever characters it has.
fn word(text: &str) -> String {
    format!("CONVERT({} USING utf8mb4)", hex(text.as_bytes()))
}

/// Fence, age of the oldest expired row, and due rows, each kind of row known by its first column.
/// Each part reads its index in order and stops. Right after `init` the statistics of `slots` may
/// still tell of a few rows; unforced, MySQL then scans all of them for each due row.
fn due_text(rows_max: usize) -> String {
    let due = "FROM store s FORCE INDEX (expires_at) \
               STRAIGHT_JOIN slots o FORCE INDEX (PRIMARY) \
               ON o.slot = s.slot AND o.state = 'owned'";
    format!(
        "(SELECT 0, {FENCE}, NULL, NULL FROM shard f WHERE f.id = 1) UNION ALL \
         (SELECT 1, NULL, NULL, NULL, NULL, NULL, NULL, \
         CAST({NOW} - s.expires_at AS SIGNED) {due} \
         WHERE s.expires_at >= 0 AND s.expires_at <= {NOW} ORDER BY s.expires_at LIMIT 1) \
         UNION ALL (SELECT 2, NULL, NULL, NULL, NULL, NULL, s.`key`, NULL {due} \
         WHERE s.expires_at <= {NOW} ORDER BY s.expires_at LIMIT {})",
        rows_max.saturating_add(1)
    )
}

fn decode_due(answer: Answer, rows_max: usize) -> Result<Due, StorageError> {
    let mut due = Due::default();
    for mut row in answer.rows {
        match column::<u8>(&mut row, 0, "a kind of row")? {
            0 => due.fence = Some(ShownFence::decode(&mut row, 1)?.fence),
            1 => due.oldest_ms = Some(column(&mut row, 7, "the age of a row")?),
            _ => {
                let key: Vec<u8> = column(&mut row, 6, "a key")?;
                due.keys
                    .push(Key::new(key).map_err(|_| unexpected("a key"))?);
            }
        }
    }
    if due.fence.is_none() {
        return Err(no_fence());
    }
    // One more than was asked for shows whether there are more.
    due.more = due.keys.len() > rows_max;
    due.keys.truncate(rows_max);
    due.keys.sort_unstable();
    Ok(due)
}

/// Looked at again, after the row's lock was had.
fn is_due() -> String {
    if planted::is(Bug::SweeperLooksOnce) {
        return "TRUE".to_owned();
    }
    format!("s.expires_at <= {NOW_LOCKED}")
}

async fn delete_due(session: &mut Session, fence: &Fence, keys: &[Key]) -> Outcome<u64> {
    if keys.is_empty() {
        return Outcome::Applied(0);
    }
    let statements = [
        // The form for several tables is the one that takes an index hint.
        format!(
            "DELETE s FROM store s FORCE INDEX (PRIMARY) WHERE {} \
             AND {} AND {}",
            keys_are("s.", keys),
            is_due(),
            fence_holds(fence)
        ),
        format!("SELECT {FENCE} FROM shard f WHERE f.id = 1"),
    ];
    let mut answers = match packet(&mut session.conn, &statements).await {
        Ok(answers) => answers,
        Err(failure) => return Outcome::Failed(failure.of_write_at(0)),
    };
    let shown = answers.pop().and_then(|mut answer| answer.rows.pop());
    let deleted = answers.pop().map_or(0, |answer| answer.affected);
    if deleted > 0 {
        return Outcome::Applied(deleted);
    }
    match shown
        .map(|mut row| ShownFence::decode(&mut row, 0))
        .transpose()
    {
        Ok(Some(shown)) if shown.lets_through(fence) => Outcome::Applied(0),
        Ok(_) => Outcome::FenceDisagrees,
        Err(error) => Outcome::Failed(error),
    }
}

/// How far one channel is behind; `None` if a thread stands still or the lag is not known.
fn channel_lag(row: &SqlRow) -> Option<Duration> {
    let runs = |new, old| named::<String>(row, new, old).is_some_and(|state| state == "Yes");
    let running = runs("Replica_IO_Running", "Slave_IO_Running")
        && runs("Replica_SQL_Running", "Slave_SQL_Running");
    let lag_s: Option<u64> = named(row, "Seconds_Behind_Source", "Seconds_Behind_Master");
    lag_s.filter(|_| running).map(Duration::from_secs)
}

/// A column by its name: MariaDB has kept the old ones.
fn named<T: FromValue>(row: &SqlRow, new: &str, old: &str) -> Option<T> {
    let value = row
        .get_opt::<Option<T>, _>(new)
        .or_else(|| row.get_opt(old));
    value?.ok()?
}
