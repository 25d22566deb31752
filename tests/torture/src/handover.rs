//! Slots change hands by SQL while clients write to them, in the order in which a move ends: fenced,
//! copied, given away, claimed, cleaned up. Somebody else's transaction holds the rows locked
//! meanwhile, so that writes are caught between their look at the fence and their rows.

use std::time::Duration;

use freehold_tests::{Server, Sql};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::cluster::Cluster;
use crate::schedule::Place;

/// Slots of one hand-over, at most.
pub const SLOTS_MAX: u16 = 16_384;

/// Rows that one statement copies.
const ROWS_AT_ONCE: usize = 100;

/// How long rows are held locked while writes keep the fence from changing.
const HELD: Duration = Duration::from_millis(200);

/// How much longer where none does: together well below what a write waits.
const HELD_MORE_MAX: Duration = Duration::from_millis(1_000);

/// How both servers call a deadlock, and how many are too many.
const DEADLOCK: &str = "ERROR 1213 ";
const DEADLOCKS_MAX: u32 = 10;

/// Names as the config has them.
pub const NAMES: [&str; 2] = ["a", "b"];

/// A row as it lies: slot, key, value, version, expiry.
type Row = (u16, Vec<u8>, Vec<u8>, u64, i64);

/// Gives some of what `from` owns, from slot `first` on, to the other shard. Whether it owned any. It
/// takes what is fenced for its own: the caller has [`Cluster::owners`].
pub async fn hand_over(cluster: &Cluster, from: usize, first: u16) -> Result<bool> {
    // In one order, so that two hand-overs do not wait for each other.
    let mut masters = Vec::new();
    for shard in 0..2 {
        masters.push(cluster.server(Place::leader(shard)).await);
    }
    let to = 1 - from;
    let mut random = StdRng::seed_from_u64(u64::from(first));
    let mut draw = || random.random::<u64>() >> 1;
    let (mut old, mut new) = (connect(&masters[from]).await?, connect(&masters[to]).await?);

    let slots = owned(&mut old, first, SLOTS_MAX).await?;
    if slots.is_empty() {
        return Ok(false);
    }
    let slots = condition(&slots);
    let (reached, through) = (CancellationToken::new(), CancellationToken::new());
    let holder = hold_rows(&masters[from], &slots, &reached, &through).await?;
    let stamp = draw() ^ now_number(&mut old).await?;
    // In two parts: who has the fence's row knows that no write holds it.
    run(&mut old, &format!("BEGIN; {}", new_epoch(stamp))).await?;
    reached.cancel();
    let fence = format!(
        "UPDATE slots SET state = 'fenced', since_epoch = (SELECT epoch FROM shard) \
         WHERE state = 'owned' AND {slots}"
    );
    if run_once(&mut old, &format!("{fence}; COMMIT")).await? == Ran::Deadlock {
        run(&mut old, &change(stamp, &fence)).await?;
    }
    let moved: Vec<(u16, u64)> = old
        .rows("SELECT slot, slot_epoch FROM slots WHERE state = 'fenced'")
        .await?;
    copy(&mut old, &mut new).await?;

    let farewell = change(
        draw() ^ now_number(&mut old).await?,
        &format!(
            "UPDATE slots SET state = 'gone', slot_epoch = slot_epoch + 1, peer = '{}', \
             since_epoch = (SELECT epoch FROM shard) WHERE state = 'fenced'",
            NAMES[to]
        ),
    );
    run(&mut old, &farewell).await?;
    let claims: Vec<String> = moved
        .iter()
        .map(|(slot, slot_epoch)| {
            let (peer, attempt) = (NAMES[from], slot_epoch + 1);
            format!("({slot}, 'owned', {attempt}, '{peer}', {attempt}, @epoch)")
        })
        .collect();
    let claim = change(
        draw() ^ now_number(&mut new).await?,
        &format!(
            "SET @epoch = (SELECT epoch FROM shard); \
             REPLACE INTO slots (slot, state, slot_epoch, peer, attempt, since_epoch) VALUES {}",
            claims.join(", ")
        ),
    );
    run(&mut new, &claim).await?;
    through.cancel();
    drop(holder.await);
    let clean_up = "DELETE s FROM store s JOIN slots o ON o.slot = s.slot WHERE o.state = 'gone'";
    run(&mut old, clean_up).await?;
    Ok(true)
}

/// Slots that a master owns, in order: at most so many from `first` on, or from the lowest where there
/// are none.
pub async fn owned(sql: &mut Sql, first: u16, slots_max: u16) -> Result<Vec<u16>> {
    let from = |first: u16| {
        format!(
            "SELECT slot FROM slots WHERE state = 'owned' AND slot >= {first} ORDER BY slot \
             LIMIT {slots_max}"
        )
    };
    let slots: Vec<u16> = sql.rows(&from(first)).await?;
    if slots.is_empty() {
        return Ok(sql.rows(&from(0)).await?);
    }
    Ok(slots)
}

/// The same in as few ranges as there are.
pub fn ranges(slots: &[u16]) -> Vec<(u16, u16)> {
    let parts = slots.chunk_by(|one, next| next.checked_sub(*one) == Some(1));
    parts
        .filter_map(|part| Some((*part.first()?, *part.last()?)))
        .collect()
}

fn condition(slots: &[u16]) -> String {
    let parts = ranges(slots).into_iter();
    let parts: Vec<String> = parts
        .map(|(first, last)| format!("slot BETWEEN {first} AND {last}"))
        .collect();
    format!("({})", parts.join(" OR "))
}

async fn connect(server: &Server) -> Result<Sql> {
    let mut sql = server.connect().await?;
    sql.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .await?;
    Ok(sql)
}

/// The fence changes in one transaction with what it protects. The lock on its row waits for the
/// writes under way.
fn change(stamp: u64, what: &str) -> String {
    format!("BEGIN; {}; {what}; COMMIT", new_epoch(stamp))
}

fn new_epoch(stamp: u64) -> String {
    format!("UPDATE shard SET epoch = epoch + 1, stamp = {stamp} WHERE id = 1")
}

/// Runs one transaction, again where it met the sweeper's in a deadlock: nothing was applied then.
async fn run(sql: &mut Sql, transaction: &str) -> Result<()> {
    for _ in 0..DEADLOCKS_MAX {
        if run_once(sql, transaction).await? == Ran::ToItsEnd {
            return Ok(());
        }
    }
    Ok(sql.run(transaction).await?)
}

/// How statements ended.
#[derive(PartialEq, Eq)]
enum Ran {
    ToItsEnd,
    /// Their transaction is undone.
    Deadlock,
}

async fn run_once(sql: &mut Sql, statements: &str) -> Result<Ran> {
    match sql.run(statements).await {
        Ok(()) => Ok(Ran::ToItsEnd),
        Err(error) if error.to_string().contains(DEADLOCK) => Ok(Ran::Deadlock),
        Err(error) => Err(error.into()),
    }
}

/// A number that differs from call to call: a stamp never comes back.
async fn now_number(sql: &mut Sql) -> Result<u64> {
    Ok(sql
        .one("SELECT CAST(UUID_SHORT() >> 1 AS UNSIGNED)")
        .await?)
}

/// Locks every row of the slots, and lets go of them after a while: writes that look at the fence under
/// a lock keep it from changing for as long as they wait here. If it was reached all the same, whatever
/// waits here has to find out, and waits until the slots have another owner.
async fn hold_rows(
    server: &Server,
    slots: &str,
    reached: &CancellationToken,
    through: &CancellationToken,
) -> Result<JoinHandle<()>> {
    let mut sql = connect(server).await?;
    let rows = format!("SELECT 1 FROM store WHERE {slots} FOR UPDATE");
    sql.run("BEGIN").await?;
    let _: Vec<u8> = sql.rows(&rows).await?;
    // Writes come to wait behind them.
    sleep(HELD).await;
    let (reached, through) = (reached.clone(), through.clone());
    Ok(tokio::spawn(async move {
        sleep(HELD).await;
        if reached.is_cancelled() {
            drop(timeout(HELD_MORE_MAX, through.cancelled()).await);
        }
        // The server may be gone by now, and the locks with it.
        drop(sql.run("COMMIT").await);
    }))
}

async fn copy(old: &mut Sql, new: &mut Sql) -> Result<()> {
    let rows: Vec<Row> = old
        .rows(
            "SELECT s.slot, s.`key`, s.value, s.version, s.expires_at FROM store s \
             JOIN slots o ON o.slot = s.slot WHERE o.state = 'fenced'",
        )
        .await?;
    for some in rows.chunks(ROWS_AT_ONCE) {
        let rows: Vec<String> = some
            .iter()
            .map(|(slot, key, value, version, expires_at)| {
                format!(
                    "({slot}, {}, {}, {version}, {expires_at})",
                    hex(key),
                    hex(value)
                )
            })
            .collect();
        let insert = "INSERT INTO store (slot, `key`, value, version, expires_at) VALUES ";
        new.run(&(insert.to_owned() + &rows.join(", "))).await?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x'{digits}'")
}
