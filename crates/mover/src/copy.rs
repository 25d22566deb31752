//! Step 3: rows in pages, in the order of the primary key. One page is read while the one before is
//! stored.

use freehold_core::{Key, SlotSet};
use freehold_storage::{
    MoveConnection,
    moves::{CopyRow, Stretch},
};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::{
    batch::Batch,
    error::{Halt, MoveError},
    mover::Mover,
    progress::Point,
    settings::MoverSettings,
    side::RANGES_MAX,
};

/// Rows of a page, whatever lies in them.
const PAGE_ROWS_MIN: usize = 16;

/// Bytes of a page, however much requests wait.
const PAGE_BYTES_MIN: usize = 64 << 10;

/// How often replicas are asked how far they are.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// How long a value is taken to be at least, when the next page's rows are counted.
const VALUE_BYTES_MIN: usize = 64;

/// How many rows the next page asks for: about half as many as fill it, by the lengths seen before,
/// so that most values come with their rows.
#[derive(Debug)]
pub(crate) struct PageSize {
    bytes_max: usize,
    rows_max: usize,
    rows: usize,
}

impl PageSize {
    pub(crate) fn new(settings: &MoverSettings) -> Self {
        Self {
            bytes_max: settings.page_bytes_max,
            rows_max: settings.page_rows_max.max(1),
            rows: settings.page_rows_max.max(1),
        }
    }

    /// The longest value that comes with its row: all of them together fill no more than the page.
    pub(crate) fn value_bytes_max(&self) -> usize {
        self.bytes_max / self.rows
    }

    /// From the next page on. Never so small that a page's own costs are most of it.
    fn shrink_to(&mut self, bytes_max: usize) {
        let before = std::mem::replace(&mut self.bytes_max, bytes_max.max(PAGE_BYTES_MIN));
        if self.bytes_max < before {
            let fitting = self.rows * self.bytes_max / before;
            self.rows = fitting.clamp(PAGE_ROWS_MIN.min(self.rows_max), self.rows_max);
        }
    }

    fn saw(&mut self, rows: &[CopyRow]) {
        let bytes: usize = rows.iter().map(|row| row.value_bytes).sum();
        let average = bytes
            .checked_div(rows.len())
            .unwrap_or(0)
            .max(VALUE_BYTES_MIN);
        let fitting = self.bytes_max / (2 * average);
        self.rows = fitting.clamp(PAGE_ROWS_MIN.min(self.rows_max), self.rows_max);
    }
}

/// The rows that fit a page, one at least, whether their values came with them or not.
pub(crate) fn that_fit(rows: &[CopyRow], bytes_max: usize) -> usize {
    let mut bytes = 0_usize;
    let fit = rows.iter().take_while(|row| {
        bytes = bytes.saturating_add(row.value_bytes);
        bytes <= bytes_max
    });
    fit.count().max(1).min(rows.len())
}

/// Fetches the values that were too long to come with their rows. Rows that died since are left out:
/// whoever deleted them has logged the key, and what expired is not missed.
pub(crate) async fn with_values(
    moves: &mut dyn MoveConnection,
    rows: Vec<CopyRow>,
) -> Result<Vec<CopyRow>, Halt> {
    let missing = rows.iter().filter(|row| row.value.is_none());
    let missing: Vec<Key> = missing.map(|row| row.key.clone()).collect();
    if missing.is_empty() {
        return Ok(rows);
    }
    let mut whole: Vec<CopyRow> = rows.into_iter().filter(|row| row.value.is_some()).collect();
    for key in missing {
        // One by one: they may have grown since.
        let found = moves.rows(&[key], usize::MAX >> 1).await?;
        whole.extend(found.into_iter().filter(|row| row.value.is_some()));
    }
    whole.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(whole)
}

/// A page, and where the next one begins, if there is more.
async fn page(
    moves: &mut dyn MoveConnection,
    stretch: &Stretch,
    size: &mut PageSize,
) -> Result<(Vec<CopyRow>, Option<Key>), Halt> {
    let asked = size.rows;
    let mut rows = moves.page(stretch, asked, size.value_bytes_max()).await?;
    size.saw(&rows);
    let fit = that_fit(&rows, size.bytes_max);
    let is_last = rows.len() < asked && fit == rows.len();
    rows.truncate(fit);
    let last = rows.last().map(|row| row.key.clone()).filter(|_| !is_last);
    Ok((with_values(moves, rows).await?, last))
}

impl Batch<'_> {
    pub(crate) async fn copy(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("copying");
        let mut pace = Pace::new(&self.mover.settings);
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            self.copy_part(slots, part, &mut pace).await?;
        }
        self.target.note().await?;
        self.source.note().await?;
        self.mover.reached(Point::Copied).await;
        Ok(())
    }

    async fn copy_part(
        &mut self,
        slots: &SlotSet,
        part: SlotSet,
        pace: &mut Pace,
    ) -> Result<(), Halt> {
        let mut size = PageSize::new(&self.mover.settings);
        let mut stretch = Stretch::from(part);
        let (mut rows, mut next) = page(&mut *self.source.moves, &stretch, &mut size).await?;
        loop {
            let began = Instant::now();
            let bytes_max = self.mover.settings.page_bytes_max;
            size.shrink_to(self.mover.throttle().page_bytes(bytes_max));
            stretch.after.clone_from(&next);
            let hold = self.target.hold();
            let store = async {
                let began = Instant::now();
                let stored = self.target.moves.store(hold, &rows).await?;
                Ok::<_, Halt>((stored, began.elapsed()))
            };
            let read = async {
                match next {
                    Some(_) => page(&mut *self.source.moves, &stretch, &mut size).await,
                    None => Ok((Vec::new(), None)),
                }
            };
            let ((stored, took), read) = tokio::try_join!(store, read)?;
            if stored.is_none() {
                return Err(self.target.disproved(slots).await);
            }
            let bytes: usize = rows.iter().map(|row| row.value_bytes).sum();
            self.mover.copied(rows.len() as u64, bytes as u64);
            self.mover.throttle().stored(bytes, took);
            self.mover.reached(Point::PageCopied).await;
            if next.is_none() {
                return Ok(());
            }
            self.mover.go_on()?;
            self.mover.rest(began.elapsed()).await;
            pace.keep_rate(self.mover, began, bytes).await?;
            pace.wait_for_replicas(self).await?;
            (rows, next) = read;
        }
    }
}

/// How soon a mover that waits for its pace finds that it shall stop.
const STOP_SEEN_WITHIN: Duration = Duration::from_millis(100);

/// How fast pages, or deletions, may follow each other.
pub(crate) struct Pace {
    /// When the next page may be stored, by the rate.
    due: Instant,
    bytes_per_second_max: Option<u64>,
    lag_max: Duration,
    looked: Instant,
    /// Whether nothing depends on what replicas have, so that one that is down, or stands still for too
    /// long, does not keep it from its end.
    gently: bool,
    /// Whether replicas were waited for too long.
    gave_up: bool,
}

impl Pace {
    pub(crate) fn new(settings: &MoverSettings) -> Self {
        Self {
            due: Instant::now(),
            bytes_per_second_max: settings.bytes_per_second_max,
            lag_max: settings.replica_lag_max,
            looked: Instant::now(),
            gently: false,
            gave_up: false,
        }
    }

    /// For cleaning up.
    pub(crate) fn gentle(settings: &MoverSettings) -> Self {
        let gently = true;
        Self {
            gently,
            ..Self::new(settings)
        }
    }

    /// Waits until so many bytes may have been copied that are on their way since `began`.
    async fn keep_rate(&mut self, mover: &Mover, began: Instant, bytes: usize) -> Result<(), Halt> {
        if let Some(rate) = self.bytes_per_second_max.filter(|rate| *rate > 0) {
            self.due = due(self.due, began, bytes as u64, rate);
            while Instant::now() < self.due {
                // At a low rate a page is due in minutes.
                mover.go_on()?;
                sleep_until(self.due.min(Instant::now() + STOP_SEEN_WITHIN)).await;
            }
        }
        Ok(())
    }

    /// Waits for replicas that lag behind what was done until the last look, unless writes wait for the
    /// mover.
    pub(crate) async fn wait_for_replicas(&mut self, batch: &mut Batch<'_>) -> Result<(), Halt> {
        if self.gave_up || self.looked.elapsed() < LAG_EVERY || batch.mover.is_holding_up() {
            return Ok(());
        }
        let doing = batch.mover.is_doing();
        // What was there at the last look has to be on the replicas before the lag is too long.
        let noted = [batch.source.noted(), batch.target.noted()];
        let deadline = self.looked + self.lag_max.max(LAG_EVERY);
        let began = Instant::now();
        for (side, noted) in [&mut batch.source, &mut batch.target]
            .into_iter()
            .zip(noted)
        {
            let Some(noted) = noted else { continue };
            while let Some(server) = side.laggard(&noted, self.gently).await {
                if Instant::now() < deadline {
                    break;
                }
                batch.mover.go_on()?;
                batch.mover.doing("waiting for replicas");
                if began.elapsed() > LAG_WAIT_MAX && self.gently {
                    self.gave_up = true;
                    break;
                }
                if began.elapsed() > LAG_WAIT_MAX {
                    return Err(MoveError::Behind {
                        shard: side.name.clone(),
                        servers: server,
                        waited: LAG_WAIT_MAX,
                    }
                    .into());
                }
                sleep(LAG_EVERY).await;
            }
        }
        batch.mover.doing(doing);
        self.looked = Instant::now();
        batch.source.note().await?;
        batch.target.note().await
    }
}

/// How long a mover waits for a replica that lags, while nobody waits for the mover.
pub(crate) const LAG_WAIT_MAX: Duration = Duration::from_secs(600);

/// When the next page is due, after one of so many bytes that was due at `due` and began at `began`.
/// Time in which nothing was copied, because the mover rested or waited, is not made up for.
fn due(due: Instant, began: Instant, bytes: u64, bytes_per_second: u64) -> Instant {
    due.max(began) + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lengths: &[usize]) -> Vec<CopyRow> {
        let row = |length: &usize| CopyRow {
            key: Key::new("k").unwrap(),
            value: None,
            value_bytes: *length,
            version: 1,
            expires_at: 1,
        };
        lengths.iter().map(row).collect()
    }

    #[test]
    fn a_page_has_as_many_rows_as_fit_and_one_at_least() {
        assert_eq!(that_fit(&rows(&[5, 5, 5]), 10), 2);
        assert_eq!(that_fit(&rows(&[50, 5]), 10), 1);
        assert_eq!(that_fit(&rows(&[5, 5]), 10), 2);
        assert_eq!(that_fit(&[], 10), 0);
    }

    #[test]
    fn pages_follow_the_length_of_values() {
        let settings = MoverSettings {
            page_bytes_max: 1 << 20,
            page_rows_max: 1_000,
            ..MoverSettings::default()
        };
        let mut size = PageSize::new(&settings);
        for (length, expected) in [(0, 1_000), (1 << 10, 512), (100 << 10, 16), (10, 1_000)] {
            size.saw(&rows(&[length; 3]));
            assert_eq!(size.rows, expected, "{length}");
            assert!(size.value_bytes_max() * size.rows <= 1 << 20);
        }
    }

    #[test]
    fn a_rate_says_when_the_next_page_is_due_and_forgives_no_waiting() {
        let (begin, ms) = (Instant::now(), Duration::from_millis);
        let first = due(begin, begin, 500, 1_000);
        assert_eq!(first, begin + ms(500));
        // Sooner than it was due nothing is copied.
        assert_eq!(due(first, begin + ms(100), 500, 1_000), begin + ms(1_000));
        // A replica was waited for: ten seconds of pages at once would make it lag again.
        let late = begin + ms(10_500);
        assert_eq!(due(first, late, 500, 1_000), late + ms(500));
    }
}
