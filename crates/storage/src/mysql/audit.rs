//! Checksums for audits, which each server makes for itself, so that comparing moves no values.

use async_trait::async_trait;
use freehold_core::{Position, Slot};
use mysql_async::Row as SqlRow;

use super::{
    MysqlConnection,
    decode::column,
    error::unexpected,
    session::query,
    statements::{DIGEST, hex},
    watch,
};
use crate::{
    audit::{AuditConnection, OCCUPIED_ROWS_MAX, Occupied, Page, Place, Stretch},
    error::StorageError,
};

/// Places in one statement.
const PLACES_AT_ONCE: usize = 128;

#[async_trait]
impl AuditConnection for MysqlConnection {
    async fn page(&mut self, stretch: &Stretch, rows_max: usize) -> Result<Page, StorageError> {
        let statement = format!(
            "SELECT COUNT(*), CAST(COALESCE(SUM(p.bytes), 0) AS UNSIGNED), \
             BIT_XOR(CAST(CONV(p.digest, 16, 10) AS UNSIGNED)), \
             MAX(CONCAT(UNHEX(LPAD(HEX(p.slot), 4, '0')), p.`key`)) \
             FROM (SELECT s.slot, s.`key`, LENGTH(s.value) AS bytes, {DIGEST} AS digest \
             FROM store s FORCE INDEX (PRIMARY) WHERE {} ORDER BY s.slot, s.`key` \
             LIMIT {rows_max}) p",
            picks(stretch)
        );
        let rows = self.ask(statement).await?.rows;
        let row = rows.into_iter().next();
        let mut row = row.ok_or_else(|| unexpected("a checksum"))?;
        let last: Option<Vec<u8>> = column(&mut row, 3, "the last row")?;
        Ok(Page {
            rows: column(&mut row, 0, "how many rows there are")?,
            bytes: column(&mut row, 1, "how long values are")?,
            digest: column(&mut row, 2, "a checksum")?,
            last: last.and_then(place_of),
        })
    }

    async fn rows(
        &mut self,
        stretch: &Stretch,
        rows_max: usize,
    ) -> Result<Vec<(Place, u64)>, StorageError> {
        let statement = format!(
            "{} WHERE {} ORDER BY s.slot, s.`key` LIMIT {rows_max}",
            digests(),
            picks(stretch)
        );
        self.ask(statement)
            .await?
            .rows
            .into_iter()
            .map(digest)
            .collect()
    }

    async fn rows_at(&mut self, places: &[Place]) -> Result<Vec<(Place, u64)>, StorageError> {
        let mut found = Vec::new();
        for places in places.chunks(PLACES_AT_ONCE) {
            let is = |place: &Place| {
                format!(
                    "(s.slot = {} AND s.`key` = {})",
                    place.slot,
                    hex(&place.key)
                )
            };
            let any: Vec<String> = places.iter().map(is).collect();
            let statement = format!("{} WHERE {}", digests(), any.join(" OR "));
            for row in self.ask(statement).await?.rows {
                found.push(digest(row)?);
            }
        }
        Ok(found)
    }

    async fn logged(&mut self) -> Result<Option<Position>, StorageError> {
        let mut session = self.take()?;
        // MariaDB writes its log before the engine commits.
        let statement = match session.is_mariadb {
            true => "SELECT @@global.gtid_binlog_pos",
            false => "SELECT @@global.gtid_executed",
        };
        let answer = query(&mut session.conn, statement.to_owned()).await;
        let shown = answer.map_err(|failure| failure.of_read());
        let shown = shown.and_then(|answer| {
            let row = answer.rows.into_iter().next();
            watch::position(
                &session,
                &mut row.ok_or_else(|| unexpected("a position"))?,
                0,
            )
        });
        self.put_back(session, shown.as_ref().err());
        shown
    }

    async fn sizes(&mut self, first: Slot, last: Slot) -> Result<Vec<(Slot, u64)>, StorageError> {
        let statement = format!(
            "SELECT s.slot, CAST(SUM(LENGTH(s.`key`) + LENGTH(s.value)) AS UNSIGNED) FROM store s \
             FORCE INDEX (PRIMARY) WHERE s.slot BETWEEN {first} AND {last} GROUP BY s.slot"
        );
        let rows = self.ask(statement).await?.rows.into_iter();
        rows.map(|mut row| {
            let slot = Slot(column(&mut row, 0, "a slot")?);
            Ok((slot, column(&mut row, 1, "how large a slot is")?))
        })
        .collect()
    }

    async fn occupied(
        &mut self,
        first: Slot,
        last: Slot,
    ) -> Result<Option<Occupied>, StorageError> {
        let statement = format!(
            "SELECT s.slot, s.`key` FROM store s FORCE INDEX (PRIMARY) \
             WHERE s.slot BETWEEN {first} AND {last} ORDER BY s.slot, s.`key` LIMIT 1"
        );
        let Some(mut row) = self.ask(statement).await?.rows.into_iter().next() else {
            return Ok(None);
        };
        let slot = column(&mut row, 0, "a slot")?;
        let statement = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM store s FORCE INDEX (PRIMARY) WHERE s.slot = {slot} \
             LIMIT {OCCUPIED_ROWS_MAX}) p"
        );
        let mut count = self.ask(statement).await?.rows;
        let count = count.first_mut();
        let count = count.ok_or_else(|| unexpected("how many rows there are"))?;
        Ok(Some(Occupied {
            slot: Slot(slot),
            rows: column(count, 0, "how many rows there are")?,
            first: column(&mut row, 1, "a key")?,
        }))
    }
}

fn digests() -> String {
    format!(
        "SELECT s.slot, s.`key`, CAST(CONV({DIGEST}, 16, 10) AS UNSIGNED) FROM store s FORCE INDEX \
         (PRIMARY)"
    )
}

fn digest(mut row: SqlRow) -> Result<(Place, u64), StorageError> {
    let place = Place {
        slot: Slot(column(&mut row, 0, "a slot")?),
        key: column(&mut row, 1, "a key")?,
    };
    Ok((place, column(&mut row, 2, "a digest")?))
}

/// Two bytes of slot, then the key: ordered as places are.
fn place_of(bytes: Vec<u8>) -> Option<Place> {
    let (slot, key) = bytes.split_first_chunk::<2>()?;
    Some(Place {
        slot: Slot(u16::from_be_bytes(*slot)),
        key: key.to_vec(),
    })
}

/// The condition that picks a stretch, as ranges of the primary key. (Neither server looks for a
/// range by a comparison of whole rows.)
fn picks(stretch: &Stretch) -> String {
    let behind = |place: &Place| format!("s.`key` > {}", hex(&place.key));
    let up_to = |place: &Place| format!("s.`key` <= {}", hex(&place.key));
    match (&stretch.after, &stretch.up_to) {
        (None, None) => "TRUE".to_owned(),
        (Some(after), None) => {
            let slot = after.slot;
            format!("(s.slot = {slot} AND {} OR s.slot > {slot})", behind(after))
        }
        (None, Some(last)) => {
            let slot = last.slot;
            format!("(s.slot < {slot} OR s.slot = {slot} AND {})", up_to(last))
        }
        (Some(after), Some(last)) if after.slot == last.slot => {
            let slot = after.slot;
            format!("s.slot = {slot} AND {} AND {}", behind(after), up_to(last))
        }
        (Some(after), Some(last)) => {
            let (first_slot, last_slot) = (after.slot, last.slot);
            format!(
                "(s.slot = {first_slot} AND {} OR s.slot > {first_slot} AND s.slot < {last_slot} \
                 OR s.slot = {last_slot} AND {})",
                behind(after),
                up_to(last)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(slot: u16, key: &[u8]) -> Place {
        Place {
            slot: Slot(slot),
            key: key.to_vec(),
        }
    }

    #[test]
    fn a_stretch_is_picked_by_ranges_of_the_primary_key() {
        let stretch = |after, up_to| picks(&Stretch { after, up_to });
        let (a, b, c) = (place(1, b"a"), place(1, b"b"), place(9, b"c"));
        let cases = [
            (stretch(None, None), "TRUE"),
            (
                stretch(Some(a.clone()), None),
                "(s.slot = 1 AND s.`key` > x'61' OR s.slot > 1)",
            ),
            (
                stretch(None, Some(b.clone())),
                "(s.slot < 1 OR s.slot = 1 AND s.`key` <= x'62')",
            ),
            (
                stretch(Some(a.clone()), Some(b)),
                "s.slot = 1 AND s.`key` > x'61' AND s.`key` <= x'62'",
            ),
            (
                stretch(Some(a), Some(c)),
                "(s.slot = 1 AND s.`key` > x'61' OR s.slot > 1 AND s.slot < 9 \
                 OR s.slot = 9 AND s.`key` <= x'63')",
            ),
        ];
        for (picked, expected) in cases {
            assert_eq!(picked, expected);
        }
    }

    #[test]
    fn places_are_ordered_by_slot_and_then_by_bytes() {
        let bytes = |slot: u16, key: &[u8]| [&slot.to_be_bytes()[..], key].concat();
        let read = place_of(bytes(258, b"\x00\xff")).unwrap();
        assert_eq!(read, place(258, b"\x00\xff"));
        assert!(place(1, b"z") < place(2, b"a") && place(1, b"a") < place(1, b"aa"));
        assert!(bytes(1, b"z") < bytes(2, b"a") && bytes(1, b"a") < bytes(1, b"aa"));
        assert_eq!(place_of(vec![1]), None);
    }
}
