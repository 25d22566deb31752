//! Whether a replica has what its master has.
//!
//! Both make a checksum of the same stretch of rows, one after the other. Where they differ, either
//! the replica lags or something is wrong, so the rows that differ are looked at one by one: at the
//! master, then at the replica once it has everything that the master had then, then at the master
//! again. A row that did not change at the master meanwhile, and is another one at the replica,
//! differs. (Each stored write has a version of its own, so a row that was the same twice was never
//! another one in between; one that was absent twice may have been, hence several looks.) A row that
//! both store anew from one look to the next is replicated whole, whatever it was before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use freehold_core::{Fence, Position};
use freehold_storage::{
    AuditConnection, Server, StorageError, WatchConnection,
    audit::{Place, Stretch},
    watch::Sight,
};
use tokio::time::{Instant, sleep};

use super::{cluster::Leader, pace::Pace, report::Compared};

/// A row differs if so many looks say so.
const CERTAIN: usize = 3;

/// Looks at one row before it is left undecided, because it is written all the time.
const LOOKS_MAX: usize = 20;

/// How often to ask whether a replica has caught up.
const CATCH_UP_POLL: Duration = Duration::from_millis(20);

/// Between two looks at a row.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Differences that are told of.
const TOLD_MAX: usize = 20;

/// Why a comparison ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfinished {
    /// A server did not answer.
    #[error("{address}: {error}")]
    Server {
        /// Which.
        address: String,
        /// What came back.
        error: StorageError,
    },
    /// It stayed behind.
    #[error("it is more than {0:?} behind its master")]
    Behind(Duration),
    /// A failover came in between.
    #[error("another server leads by now")]
    Replaced,
    /// Nobody can say how far it is.
    #[error("{0} does not tell what it has: it writes no binary log, or numbers no transactions")]
    NoPosition(String),
}

struct Side<'a> {
    server: &'a Server,
    rows: Box<dyn AuditConnection>,
    watch: Box<dyn WatchConnection>,
}

impl<'a> Side<'a> {
    async fn open(server: &'a Server) -> Result<Self, Unfinished> {
        let failed = |error| Unfinished::Server {
            address: server.address().to_owned(),
            error,
        };
        Ok(Self {
            server,
            rows: server.connect_audit().await.map_err(failed)?,
            watch: server.connect_watch().await.map_err(failed)?,
        })
    }

    fn failed(&self, error: StorageError) -> Unfinished {
        Unfinished::Server {
            address: self.server.address().to_owned(),
            error,
        }
    }

    /// What it has written, as a master.
    async fn logged(&mut self) -> Result<Position, Unfinished> {
        let logged = self.rows.logged().await;
        let logged = logged.map_err(|error| self.failed(error))?;
        logged.ok_or_else(|| self.no_position())
    }

    fn no_position(&self) -> Unfinished {
        Unfinished::NoPosition(self.server.address().to_owned())
    }

    async fn look(&mut self) -> Result<Sight, Unfinished> {
        let sight = self.watch.look().await;
        sight.map_err(|error| self.failed(error))
    }

    /// What it has applied, as a replica.
    async fn applied(&mut self) -> Result<Position, Unfinished> {
        let position = self.look().await?.position;
        position.ok_or_else(|| self.no_position())
    }

    /// Fails where it knows of another leader.
    async fn is_led_by(&mut self, fence: &Fence) -> Result<(), Unfinished> {
        let shown = self.look().await?.fence;
        match (shown.term, shown.server_id) == (fence.term, fence.server_id) {
            true => Ok(()),
            false => Err(Unfinished::Replaced),
        }
    }

    async fn rows(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
    ) -> Result<BTreeMap<Place, u64>, Unfinished> {
        let rows = self.rows.rows(stretch, rows_max).await;
        Ok(rows
            .map_err(|error| self.failed(error))?
            .into_iter()
            .collect())
    }

    async fn rows_at(&mut self, places: &[Place]) -> Result<BTreeMap<Place, u64>, Unfinished> {
        let rows = self.rows.rows_at(places).await;
        Ok(rows
            .map_err(|error| self.failed(error))?
            .into_iter()
            .collect())
    }
}

/// Compares all rows. What was found up to an error stays in `compared`; `told` hears how many rows
/// were compared so far.
pub(crate) async fn compare(
    leader: &Leader<'_>,
    replica: &Server,
    lag_max: Duration,
    pace: &mut Pace,
    compared: &mut Compared,
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Unfinished> {
    let mut master = Side::open(leader.server).await?;
    let mut replica = Side::open(replica).await?;
    let fence = &leader.claims.fence;
    let mut stretch = Stretch::default();
    loop {
        let (began, rows_max) = (Instant::now(), pace.rows());
        stretch.up_to = None;
        let page = master.rows.page(&stretch, rows_max).await;
        let page = page.map_err(|error| master.failed(error))?;
        let is_last = page.rows < rows_max as u64;
        if !is_last {
            stretch.up_to.clone_from(&page.last);
        }
        // A replica with more rows than its master must not make the page longer.
        let other = replica.rows.page(&stretch, rows_max + 1).await;
        let other = other.map_err(|error| replica.failed(error))?;
        let took = began.elapsed();
        if (page.rows, page.digest) != (other.rows, other.digest) {
            look_closer(
                &mut master,
                &mut replica,
                fence,
                &stretch,
                rows_max,
                lag_max,
                compared,
            )
            .await?;
        }
        compared.rows += page.rows;
        told(compared.rows);
        if is_last {
            return Ok(());
        }
        stretch.after = stretch.up_to.take();
        sleep(pace.after(page.rows, took)).await;
    }
}

async fn look_closer(
    master: &mut Side<'_>,
    replica: &mut Side<'_>,
    fence: &Fence,
    stretch: &Stretch,
    rows_max: usize,
    lag_max: Duration,
    compared: &mut Compared,
) -> Result<(), Unfinished> {
    // Rows that come in meanwhile make it longer.
    let rows_max = 2 * rows_max;
    let (at_master, at_replica) = (
        master.rows(stretch, rows_max).await?,
        replica.rows(stretch, rows_max).await?,
    );
    let mut suspects: BTreeMap<Place, Suspect> = differing(&at_master, &at_replica)
        .into_iter()
        .map(|place| (place, Suspect::default()))
        .collect();
    for look in 0..LOOKS_MAX {
        if suspects.is_empty() {
            return Ok(());
        }
        if look > 0 {
            sleep(LOOK_PAUSE).await;
        }
        let places: Vec<Place> = suspects.keys().cloned().collect();
        let before = master.rows_at(&places).await?;
        let position = master.logged().await?;
        wait_for(replica, &position, lag_max).await?;
        let there = replica.rows_at(&places).await?;
        let after = master.rows_at(&places).await?;
        // After the rows: what another leader wrote comes behind its fence.
        replica.is_led_by(fence).await?;
        for place in places {
            let [before, there, after] = [&before, &there, &after].map(|rows| rows.get(&place));
            let suspect = suspects.entry(place.clone()).or_default();
            match suspect.decide(before.copied(), there.copied(), after.copied()) {
                Some(false) => drop(suspects.remove(&place)),
                Some(true) => {
                    suspects.remove(&place);
                    compared.differ(place, (before.is_some(), there.is_some()), TOLD_MAX);
                }
                None => {}
            }
        }
    }
    compared.undecided += suspects.len() as u64;
    Ok(())
}

/// What is known of a row that differed at first.
#[derive(Debug, Default)]
struct Suspect {
    /// How many looks say that it differs.
    looks: usize,
    /// What the replica showed at the last look.
    there: Option<u64>,
}

impl Suspect {
    /// Whether the row differs, if that can be said after one more look.
    fn decide(
        &mut self,
        before: Option<u64>,
        there: Option<u64>,
        after: Option<u64>,
    ) -> Option<bool> {
        let last = std::mem::replace(&mut self.there, there);
        if there == before || there == after {
            return Some(false);
        }
        if before != after {
            let is_stored_anew = last.is_some() && there.is_some() && last != there;
            return is_stored_anew.then_some(false);
        }
        self.looks += 1;
        (self.looks >= CERTAIN).then_some(true)
    }
}

/// Where two sides do not show the same.
fn differing(one: &BTreeMap<Place, u64>, other: &BTreeMap<Place, u64>) -> BTreeSet<Place> {
    let places = one.keys().chain(other.keys());
    let differs = |place: &&Place| one.get(place) != other.get(place);
    places.filter(differs).cloned().collect()
}

async fn wait_for(
    replica: &mut Side<'_>,
    position: &Position,
    lag_max: Duration,
) -> Result<(), Unfinished> {
    let began = Instant::now();
    loop {
        if replica.applied().await?.covers(position) {
            return Ok(());
        }
        if began.elapsed() > lag_max {
            return Err(Unfinished::Behind(lag_max));
        }
        sleep(CATCH_UP_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::Slot;

    use super::*;

    #[test]
    fn only_what_stood_still_at_the_master_can_differ() {
        let decide = |before, there, after| {
            let mut suspect = Suspect::default();
            let looks = (0..CERTAIN).map(|_| suspect.decide(before, there, after));
            looks.last().flatten()
        };
        assert_eq!(decide(Some(1), Some(2), Some(1)), Some(true));
        assert_eq!(decide(Some(1), None, Some(1)), Some(true));
        assert_eq!(decide(None, Some(1), None), Some(true));
        assert_eq!(decide(Some(1), Some(1), Some(2)), Some(false));
        assert_eq!(decide(Some(1), Some(2), Some(2)), Some(false));
        assert_eq!(decide(Some(1), Some(2), Some(3)), None);
        assert_eq!(decide(None, None, None), Some(false));
        let mut first = Suspect::default();
        assert_eq!(
            first.decide(Some(1), None, Some(1)),
            None,
            "one look is not enough"
        );
    }

    #[test]
    fn a_row_that_both_store_anew_is_replicated() {
        let mut suspect = Suspect::default();
        assert_eq!(suspect.decide(Some(10), Some(5), Some(11)), None);
        assert_eq!(
            suspect.decide(Some(12), Some(5), Some(13)),
            None,
            "the replica stands"
        );
        assert_eq!(suspect.decide(Some(14), Some(6), Some(15)), Some(false));
    }

    #[test]
    fn rows_that_one_side_lacks_differ() {
        let place = |key: &str| Place {
            slot: Slot(1),
            key: key.into(),
        };
        let rows = |keys: &[(&str, u64)]| {
            keys.iter()
                .map(|(key, digest)| (place(key), *digest))
                .collect()
        };
        let found = differing(
            &rows(&[("a", 1), ("b", 2), ("c", 3)]),
            &rows(&[("b", 2), ("c", 4), ("d", 5)]),
        );
        assert!(found.into_iter().eq(["a", "c", "d"].map(place)));
    }
}
