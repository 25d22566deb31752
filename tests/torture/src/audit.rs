//! What the databases themselves show once everything is mended: replicas as their masters, each slot
//! with one owner and none on its way, and every row of a round.

use std::time::Duration;

use freehold_checker::record::{Record, Row, Span};
use freehold_tests::{Server, Sql, replication};
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::cluster::Cluster;
use crate::handover::NAMES;
use crate::journal::Journal;
use crate::moves::nothing_is_left;
use crate::schedule::{Place, SHARDS};
use crate::workload::decode;

/// What replicas may take to have everything. Far above what they take.
const AGREE_WITHIN: Duration = Duration::from_secs(90);

/// Slots of a cluster.
const SLOTS: usize = 65_536;

/// A row as a master shows it: key, value, whether it lives, whether its slot is owned there.
type Shown = (Vec<u8>, Vec<u8>, bool, bool);

impl Cluster {
    /// Waits until each replica has what its master has, and shows the same lasting rows.
    pub async fn replicas_agree(&self, round: u64) -> Result<()> {
        for shard in 0..SHARDS {
            for rank in 1..=self.replicas() {
                self.replica_agrees(Place { shard, rank }, round).await?;
            }
        }
        Ok(())
    }

    async fn replica_agrees(&self, place: Place, round: u64) -> Result<()> {
        let deadline = Instant::now() + AGREE_WITHIN;
        loop {
            let master = self.server(Place::leader(place.shard)).await;
            let copy = self.server(place).await;
            replication::start(&copy).await?;
            replication::wait_until_caught_up(&master, &copy).await?;
            let theirs = lasting_rows(&copy, round).await?;
            let ours = lasting_rows(&master, round).await?;
            if ours == theirs {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{place} shows other rows than its master").into());
            }
            drop((master, copy));
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Each slot has one owner, none is on its way, and no key is logged. Hand-overs and moves have
    /// ended.
    pub async fn slots_have_owners(&self) -> Result<()> {
        nothing_is_left(self).await?;
        let mut owners = vec![0_u8; SLOTS];
        for shard in 0..SHARDS {
            let master = self.server(Place::leader(shard)).await;
            let owned = "SELECT slot FROM slots WHERE state = 'owned'";
            let owned: Vec<u16> = master.connect().await?.rows(owned).await?;
            for slot in owned {
                owners[usize::from(slot)] += 1;
            }
        }
        match owners.iter().position(|count| *count != 1) {
            None => Ok(()),
            Some(slot) => Err(format!("slot {slot} has {} owners", owners[slot]).into()),
        }
    }

    /// Reads every row of a round on every master, with whether that owns it.
    pub async fn audit(&self, round: u64, journal: &Journal) -> Result<usize> {
        let start_ns = journal.now_ns();
        let mut count = 0;
        for (shard, name) in NAMES.into_iter().enumerate() {
            let master = self.server(Place::leader(shard)).await;
            let mut sql = master.connect().await?;
            sql.run("SET SESSION time_zone = '+00:00'").await?;
            let query = format!(
                "SELECT s.`key`, s.value, s.expires_at > ROUND(UNIX_TIMESTAMP(NOW(3)) * 1000), \
                 COALESCE(o.state = 'owned', FALSE) FROM store s LEFT JOIN slots o \
                 ON o.slot = s.slot WHERE {}",
                of_round(round)
            );
            let rows: Vec<Shown> = sql.rows(&query).await?;
            count += rows.len();
            journal.note_all(rows.into_iter().map(|(key, value, live, owned)| {
                Record::Row(Row {
                    shard: name.to_owned(),
                    key: String::from_utf8_lossy(&key).into_owned(),
                    // A dead row's value is nobody's business.
                    value: if live { decode(&value) } else { String::new() },
                    live,
                    owned,
                })
            }));
        }
        journal.note(Record::Audit(Span {
            start_ns,
            end_ns: journal.now_ns(),
            what: format!("{count} rows"),
        }));
        Ok(count)
    }
}

async fn lasting_rows(server: &Server, round: u64) -> Result<Vec<(Vec<u8>, u64)>> {
    let mut sql: Sql = server.connect().await?;
    let query = format!(
        "SELECT `key`, version FROM store WHERE expires_at = {} AND {} ORDER BY slot, `key`",
        i64::MAX,
        of_round(round)
    );
    Ok(sql.rows(&query).await?)
}

/// The condition for keys of a round.
fn of_round(round: u64) -> String {
    format!("(`key` LIKE 'r{round}:%' OR `key` LIKE '{{r{round}}}:%')")
}
