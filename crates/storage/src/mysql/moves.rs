//! Moving slots: what a mover asks of a master.
//!
//! `proof` is what every statement carries that changes something; `change` takes slots over and
//! changes their states, `rows` reads and deletes, `store` stores, `verify` makes checksums, and
//! `record` keeps the list of moves. Everything goes as text: a page is one statement of megabytes, in which
//! values are quoted as they are, and no two pages have the same number of rows.

mod change;
mod proof;
mod record;
mod rows;
mod store;
mod verify;

use async_trait::async_trait;
use freehold_core::{
    Key, Position, Slot, SlotSet,
    moving::{Change, SlotRow, Work},
};

use super::{
    MysqlConnection,
    claims::{IDENTITY, identity},
    decode::{ShownFence, column, text},
    error::unexpected,
    read::no_fence,
    session::{Session, packet, query, query_each},
    statements::FENCE,
    watch,
};
use crate::{
    error::{Refusal, StorageError},
    moves::{
        Checksum, Cleared, CopyRow, Entry, Hold, Leader, Logged, MoveBeat, MoveConnection,
        MoveRecord, MoveRun, Portion, Recorded, SeenSlots, Stretch, unsettled,
    },
};

/// Calls a function with the session, and puts it back.
macro_rules! with_session {
    ($self:ident, |$session:ident| $work:expr) => {{
        let mut taken = $self.take()?;
        let $session = &mut taken;
        let done = $work.await;
        $self.put_back(taken, done.as_ref().err());
        done
    }};
}

#[async_trait]
impl MoveConnection for MysqlConnection {
    async fn slots(&mut self, slots: &SlotSet) -> Result<SeenSlots, StorageError> {
        let which = proof::slots_are(slots);
        with_session!(self, |session| seen(session, &which))
    }

    async fn on_their_way(&mut self) -> Result<Vec<(Slot, SlotRow<Box<str>>)>, StorageError> {
        let which = format!("s.state IN ({})", unsettled());
        let seen = with_session!(self, |session| seen(session, &which));
        Ok(seen?.rows)
    }

    async fn take_over(
        &mut self,
        hold: Hold,
        run: &MoveRun,
        slots: &SlotSet,
        peer: &str,
    ) -> Result<Option<()>, StorageError> {
        with_session!(self, |session| change::take_over(
            session, hold, run, slots, peer
        ))
    }

    async fn change(
        &mut self,
        leader: Leader,
        changes: &[(Slot, Change<Box<str>>)],
    ) -> Result<Option<()>, StorageError> {
        with_session!(self, |session| change::change(session, leader, changes))
    }

    async fn page(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError> {
        with_session!(self, |session| rows::page(
            session,
            stretch,
            rows_max,
            value_bytes_max
        ))
    }

    async fn rows(
        &mut self,
        keys: &[Key],
        value_bytes_max: usize,
    ) -> Result<Vec<CopyRow>, StorageError> {
        with_session!(self, |session| rows::rows(session, keys, value_bytes_max))
    }

    async fn store(&mut self, hold: Hold, rows: &[CopyRow]) -> Result<Option<()>, StorageError> {
        with_session!(self, |session| store::store(session, hold, rows))
    }

    async fn remove(&mut self, hold: Hold, keys: &[Key]) -> Result<Option<()>, StorageError> {
        with_session!(self, |session| rows::remove(session, hold, keys))
    }

    async fn logged(
        &mut self,
        slots: &SlotSet,
        after: Option<&Key>,
        keys_max: usize,
    ) -> Result<Vec<Logged>, StorageError> {
        with_session!(self, |session| rows::logged(
            session, slots, after, keys_max
        ))
    }

    async fn logged_of(&mut self, keys: &[Key]) -> Result<Vec<Key>, StorageError> {
        with_session!(self, |session| rows::logged_of(session, keys))
    }

    async fn forget(&mut self, hold: Hold, entries: &[Logged]) -> Result<Option<()>, StorageError> {
        with_session!(self, |session| rows::forget(session, hold, entries))
    }

    async fn checksum(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
        rows_max: usize,
    ) -> Result<Checksum, StorageError> {
        with_session!(self, |session| verify::checksum(
            session, stretch, now_ms, rows_max
        ))
    }

    async fn digests(
        &mut self,
        stretch: &Stretch,
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError> {
        let picked = proof::stretch(stretch);
        with_session!(self, |session| verify::digests(session, &picked, now_ms))
    }

    async fn digests_of(
        &mut self,
        keys: &[Key],
        now_ms: i64,
    ) -> Result<Vec<(Key, u64)>, StorageError> {
        let picked = super::statements::keys_are("s.", keys);
        with_session!(self, |session| verify::digests(session, &picked, now_ms))
    }

    async fn clear(
        &mut self,
        hold: Hold,
        work: Work,
        slots: &SlotSet,
        portion: Portion,
    ) -> Result<Option<Cleared>, StorageError> {
        with_session!(self, |session| rows::delete_some(
            session, hold, work, slots, portion
        ))
    }

    async fn position(&mut self) -> Result<Option<Position>, StorageError> {
        with_session!(self, |session| position(session))
    }

    async fn now_ms(&mut self) -> Result<i64, StorageError> {
        with_session!(self, |session| now_ms(session))
    }

    async fn executed(&mut self) -> Result<Option<u64>, StorageError> {
        with_session!(self, |session| executed(session))
    }

    async fn record(
        &mut self,
        leader: Leader,
        entry: Entry,
        record: &MoveRecord,
    ) -> Result<Recorded, StorageError> {
        with_session!(self, |session| record::write(
            session, leader, entry, record
        ))
    }

    async fn beat(&mut self, leader: Leader, beat: &MoveBeat) -> Result<Option<()>, StorageError> {
        with_session!(self, |session| record::beat(session, leader, beat))
    }

    async fn record_of(&mut self, id: u64) -> Result<Option<MoveRecord>, StorageError> {
        let which = format!("WHERE id = {id}");
        let found = with_session!(self, |session| record::read(session, &which, 1));
        Ok(found?.pop())
    }

    async fn records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError> {
        with_session!(self, |session| record::read(
            session,
            record::NEWEST,
            records_max
        ))
    }

    async fn open_records(&mut self, records_max: usize) -> Result<Vec<MoveRecord>, StorageError> {
        with_session!(self, |session| record::read(
            session,
            record::OPEN,
            records_max
        ))
    }
}

/// How often a statement that met a lock or a deadlock, and so changed nothing, is sent again.
const BUSY_REPEATS_MAX: u32 = 4;

/// Sends statements that bear repetition as one packet. The first one is the one that changes
/// something. A proof that did not hold is `None`.
async fn send(
    session: &mut Session,
    statements: &[String],
) -> Result<Option<Vec<super::session::Answer>>, StorageError> {
    for _ in 0..BUSY_REPEATS_MAX {
        match send_once(session, statements).await {
            Err(StorageError::Refused {
                refusal: Refusal::Busy,
                ..
            }) => {}
            sent => return sent,
        }
    }
    send_once(session, statements).await
}

async fn send_once(
    session: &mut Session,
    statements: &[String],
) -> Result<Option<Vec<super::session::Answer>>, StorageError> {
    match packet(&mut session.conn, statements).await {
        Ok(answers) => Ok(Some(answers)),
        Err(failure) if failure.refused_at(0).is_some_and(proof::is_disproof) => Ok(None),
        Err(failure) => Err(failure.of_write_at(0)),
    }
}

async fn position(session: &mut Session) -> Result<Option<Position>, StorageError> {
    // Of everything that is there by now, not only of this session's own last transaction.
    session.last_write_changed = false;
    watch::written(session).await
}

async fn now_ms(session: &mut Session) -> Result<i64, StorageError> {
    let clock = "SELECT CAST(ROUND(UNIX_TIMESTAMP(SYSDATE(3)) * 1000) AS SIGNED)".to_owned();
    let answer = query(&mut session.conn, clock).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let row = answer.rows.into_iter().next();
    let mut row = row.ok_or_else(|| unexpected("the clock"))?;
    column(&mut row, 0, "the clock")
}

/// Needs no right.
async fn executed(session: &mut Session) -> Result<Option<u64>, StorageError> {
    let counter = "SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'".to_owned();
    let answer = query(&mut session.conn, counter).await;
    let answer = answer.map_err(|failure| failure.of_read())?;
    let row = answer.rows.into_iter().next();
    let mut row = row.ok_or_else(|| unexpected("how many statements were executed"))?;
    let counted: String = column(&mut row, 1, "how many statements were executed")?;
    Ok(counted.parse().ok())
}

/// The fence, and the rows of slots that a condition picks.
async fn seen(session: &mut Session, which: &str) -> Result<SeenSlots, StorageError> {
    let statement = format!(
        "SELECT {FENCE}, {IDENTITY}, s.slot, s.state, s.slot_epoch, s.peer, s.attempt \
         FROM shard f LEFT JOIN slots s ON {which} WHERE f.id = 1"
    );
    let mut head = None;
    let mut rows = Vec::new();
    query_each(&mut session.conn, &statement, |mut row| {
        if head.is_none() {
            head = Some((ShownFence::decode(&mut row, 0)?, identity(&mut row, 5)?));
        }
        rows.extend(slot_row(row)?);
        Ok(())
    })
    .await?;
    let (shown, identity) = head.ok_or_else(no_fence)?;
    rows.sort_unstable_by_key(|(slot, _)| *slot);
    Ok(SeenSlots {
        fence: shown.fence,
        answered_by: shown.answered_by,
        name: identity.name,
        cluster_id: identity.cluster_id,
        rows,
    })
}

/// A slot and its row.
type Shown = (Slot, SlotRow<Box<str>>);

fn slot_row(mut row: mysql_async::Row) -> Result<Option<Shown>, StorageError> {
    let slot: Option<u16> = column(&mut row, 8, "a slot")?;
    let Some(slot) = slot else { return Ok(None) };
    let state = text(&mut row, 9, "a slot's state")?;
    let peer: Option<Vec<u8>> = column(&mut row, 11, "a slot's peer")?;
    let seen = SlotRow {
        state: freehold_core::SlotState::parse(&state)
            .ok_or_else(|| unexpected("a slot's state"))?,
        slot_epoch: column(&mut row, 10, "a slot's epoch")?,
        peer: peer.map(|peer| String::from_utf8_lossy(&peer).into()),
        attempt: column(&mut row, 12, "a slot's attempt")?,
    };
    Ok(Some((Slot(slot), seen)))
}
